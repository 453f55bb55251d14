"""Publishing on the Hugging Face Hub: conversion, checks, model cards, upload."""
