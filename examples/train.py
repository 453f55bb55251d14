"""Train by a recipe, in one process or in many: accelerate launch examples/train.py RECIPE DATA OUTPUT [KEY=VALUE ...].

Run it once more with the same OUTPUT to continue a run that stopped.
"""

import sys
from pathlib import Path

from accelerate import PartialState

from kinoclip.cli.options import read_settings
from kinoclip.training.data import prepare_data
from kinoclip.training.recipe import load_recipe
from kinoclip.training.trainer import train

name, data, output, *settings = sys.argv[1:]
try:
    recipe = load_recipe(name).with_settings(read_settings(settings))
    parts = prepare_data(recipe, data)
except (OSError, ValueError) as error:
    sys.exit(str(error))
result = train(recipe, parts.train, output, validation=parts.validation, resume=Path(output).exists())
if PartialState().is_main_process:
    print(f"{result.output}: {result.updates} updates, last loss {result.history[-1]['loss']:.4f}")
