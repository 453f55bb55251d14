"""The Space as a visitor finds it: its server, a real browser, and the client of its function.

The browser is Chromium: `apt-get install chromium`, or `playwright install chromium`.
"""

import ast
import asyncio
import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest
import yaml

from kinoclip.kinoshapes import write_video
from kinoclip.kinoshapes.figures.acting import FigureSegment, FigureSpec
from kinoclip.kinoshapes.figures.scenes import render_figures

gradio = pytest.importorskip("gradio", reason="pip install 'kinoclip[demo]'")

SPACE = Path(__file__).parents[2] / "spaces" / "recognizer"
EVIL = "<img src=x onerror=alert(1)>"
MARKUP = "<a ball=red>white box</a>"  # in words that the embedded models know
SECONDS = 60_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The path of a clip of a person who drinks."""
    shown = render_figures(FigureSpec((FigureSegment("drinking", 2, 15),), "kitchen", seed=7))
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", shown.frames)


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def url(uploads, tmp_path_factory):
    """The address of the Space, started as Hugging Face starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("log") / "server.txt"
    environment = {
        **os.environ,
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(uploads),
        "GRADIO_MCP_SERVER": "true",
        "OMP_NUM_THREADS": "1",
    }
    address = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "app.py"], cwd=SPACE, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            _wait_for(address, server, log)
            yield address
        finally:
            server.terminate()
            server.wait(30)
    assert "Traceback" not in log.read_text()
    assert not [file for file in uploads.rglob("*") if file.is_file()], "uploads outlive the server"


def _wait_for(address, server, log):
    for _ in range(480):
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.25)
        else:
            return
    pytest.fail(f"the Space did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as started:
        found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        path = found or started.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no browser: apt-get install chromium, or playwright install chromium")
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, url):
    """Open the page; in the end, nothing went wrong in the browser and nothing was fetched from elsewhere."""
    wrong, contexts = [], []

    def open_page(width=1440, height=900, theme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: wrong.append(dialog.message) or dialog.dismiss())
        page.on(
            "request",
            lambda request: None if request.url.startswith((url, "data:", "blob:")) else wrong.append(request.url),
        )
        page.goto(url)
        page.wait_for_selector(".kc-cards button")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong


def bring(page, path, labels):
    """Choose a file, write labels, and press the button."""
    page.set_input_files("#kc-video input[type=file]", path)
    page.wait_for_selector("#kc-video [aria-label=Clear]")
    write_labels(page, labels)
    page.click("#kc-recognize")


def write_labels(page, labels):
    # typing ten thousand lines takes a browser minutes
    page.locator("#kc-labels textarea").evaluate(
        "(field, text) => { field.value = text; field.dispatchEvent(new Event('input', {bubbles: true})); }", labels
    )


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def test_a_visitors_own_clip_is_named_with_the_visitors_own_labels(visit, clip):
    page = visit()
    bring(page, clip, f"waving\ndrinking\n{MARKUP}\n${{red+red}} {{{{blue}}}}")
    page.wait_for_selector("#kc-verdict .kc-verdict >> text=drinking")
    assert page.locator(".kc-film figure").count() == 8
    ranking = page.locator("#kc-ranking").inner_text()
    assert MARKUP in ranking
    assert "${red+red} {{blue}}" in ranking
    assert page.locator("a[ball]").count() == 0
    page.click("text=Where it looked")
    assert page.locator(".kc-view-1").first.is_visible()
    assert not page.locator(".kc-view-0").first.is_visible()


def test_an_example_is_answered_at_a_click_without_scrolling(visit):
    page = visit()
    page.locator(".kc-cards button").nth(2).click()
    page.wait_for_selector(".kc-line span")
    assert page.locator(".kc-spans li").count() == 3
    assert page.locator("#kc-labels textarea").input_value() == "squatting\nwaving\njumping jacks"
    box = page.locator(".kc-line").bounding_box()
    assert 0 < box["y"] < 450
    assert overflow(page) <= 0


def test_on_a_phone_the_answer_comes_into_view_and_nothing_sticks_out(visit):
    page = visit(390, 844)
    assert overflow(page) <= 0
    page.locator(".kc-cards button").first.click()
    page.wait_for_selector(".kc-film figure")
    page.wait_for_function("document.querySelector('.kc-verdict').getBoundingClientRect().top < 300")
    assert overflow(page) <= 0


def test_dark_follows_the_visitors_system(visit):
    page = visit(theme="dark")
    background, text = page.evaluate(
        "['body', '.kc-header h1'].map((name, i) => getComputedStyle(document.querySelector(name))[['backgroundColor', 'color'][i]])"
    )
    assert sum(map(int, re.findall(r"\d+", background)[:3])) < 100
    assert sum(map(int, re.findall(r"\d+", text)[:3])) > 600


def test_what_cannot_be_answered_is_said_in_a_sentence_and_an_older_answer_goes(visit, tmp_path):
    page = visit()
    page.locator(".kc-cards button").first.click()
    page.wait_for_selector(".kc-film figure")
    write_labels(page, "\n".join(f"label {i}" for i in range(10_000)))
    page.click("#kc-recognize")
    page.wait_for_selector("#kc-verdict [role=alert] >> text=At most 1,000 labels are allowed, got 10,000.")
    assert page.locator(".toast-body").count() == 0  # it would cover the next answer
    page.wait_for_selector(".kc-film figure", state="detached")

    write_labels(page, "x" * 100_000)
    page.click("#kc-recognize")
    page.wait_for_selector("text=A label may have at most 200 letters, label 1 has 100,000.")

    write_labels(page, f"{EVIL}\n{EVIL}")
    page.click("#kc-recognize")
    page.wait_for_selector(f"text=The label '{EVIL}' is given twice.")


def test_a_file_that_is_no_video_is_refused_without_telling_where_it_lies(visit, tmp_path, uploads):
    bad = tmp_path / "clip.mp4"
    bad.write_bytes(b"no video at all")
    page = visit()
    bring(page, bad, "drinking")
    page.wait_for_selector("text=This file cannot be used: this is text, not a video.")
    assert str(uploads) not in page.locator("body").inner_text()


def test_a_name_in_capitals_is_that_of_a_video_in_the_browser_too(visit, clip, tmp_path):
    shutil.copy(clip, tmp_path / "IMG.MOV")
    page = visit()
    bring(page, tmp_path / "IMG.MOV", "drinking\nwaving")
    page.wait_for_selector("#kc-verdict .kc-verdict >> text=drinking")
    assert page.locator(".kc-silent").count() == 0


def test_a_video_that_the_browser_cannot_play_is_answered_and_the_player_says_so(visit, clip, tmp_path):
    with av.open(clip) as source, av.open(tmp_path / "clip.avi", "w") as avi:
        stream = avi.add_stream("mpeg4", rate=8)
        stream.width, stream.height = source.streams.video[0].width, source.streams.video[0].height
        avi.mux(
            [packet for frame in source.decode(video=0) for packet in stream.encode(frame.reformat(format="yuv420p"))]
        )
        avi.mux(stream.encode())
    page = visit()
    bring(page, tmp_path / "clip.avi", "drinking\nwaving")
    page.wait_for_selector("#kc-verdict .kc-verdict >> text=drinking")
    said = "getComputedStyle(document.querySelector('.kc-silent .video-container'), '::after').content"
    assert "No preview: this browser cannot play the file." in page.evaluate(said)
    assert page.locator(".toast-body").count() == 0


def test_the_code_names_the_visitors_labels_and_the_page_keeps_its_width(visit):
    page = visit(390, 844)
    width = "document.querySelector('.gradio-container').getBoundingClientRect().width"
    before = page.evaluate(width)
    write_labels(page, "dancing\ncooking")
    page.get_by_role("tab", name="In Python").click()
    page.wait_for_selector('text=kinoclip.classify("clip.mp4", ["dancing", "cooking"], model="mini-actions")')
    assert page.evaluate(width) == before
    assert overflow(page) <= 0


@pytest.fixture(scope="module")
def client(url):
    client = pytest.importorskip("gradio_client").Client(url, verbose=False)
    yield client
    client.close()


def test_the_function_answers_as_the_readme_of_the_space_says(client, url, clip, tmp_path, monkeypatch, capsys):
    shutil.copy(clip, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", (SPACE / "README.md").read_text(), re.DOTALL)[1]
    names = {}
    exec(compile(code.replace("http://127.0.0.1:7860", url), "README.md", "exec"), names)
    assert names["answer"]["label"] == "drinking"
    assert names["answer"]["spans"][0]["label"] == "drinking"
    assert "drinking" in capsys.readouterr().out


def test_only_the_video_and_the_labels_must_be_given(client, clip):
    from gradio_client import handle_file

    answer = client.predict(video=handle_file(clip), labels="drinking, waving", api_name="/classify")
    assert answer["model"] == "mini-actions"
    assert "spans" not in answer


def test_a_name_in_capitals_is_that_of_a_video(client, clip, tmp_path):
    from gradio_client import handle_file

    shutil.copy(clip, tmp_path / "CLIP.MP4")
    answer = client.predict(video=handle_file(tmp_path / "CLIP.MP4"), labels="drinking, waving", api_name="/classify")
    assert answer["label"] == "drinking"


def test_the_function_reads_no_file_of_the_server(client):
    from gradio_client.exceptions import AppError

    secret = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError) as caught:
        client.predict(video=secret, labels="drinking", api_name="/classify")
    assert "root:" not in str(caught.value)


def call_as_agent(url, *calls):
    """The tools that an agent finds, and what it is told at each call."""
    mcp = pytest.importorskip("mcp", reason="pip install 'kinoclip[mcp]'")
    from mcp.client.streamable_http import streamable_http_client

    async def talk():
        async with (
            streamable_http_client(f"{url}/gradio_api/mcp/") as (reading, writing, _),
            mcp.ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            answers = [await session.call_tool("classify_video", arguments) for arguments in calls]
            return tools, [(answer.isError, answer.content[0].text) for answer in answers]

    return run_elsewhere(lambda: asyncio.run(talk()))


def run_elsewhere(function):
    """Call a function in another thread, because this one may have the event loop of the browser."""
    with ThreadPoolExecutor() as pool:
        return pool.submit(function).result()


def test_an_agent_finds_one_tool_and_classifies_with_it(url, clip):
    video = "data:video/mp4;base64," + base64.b64encode(clip.read_bytes()).decode()
    [tool], [answer] = call_as_agent(url, {"video": video, "labels": "drinking, waving", "spans": True})
    assert tool.name == "classify_video"
    assert tool.description.startswith("Classify the action in a video among labels of your choice")
    assert tool.inputSchema["required"] == ["video", "labels"]
    arguments = tool.inputSchema["properties"]
    types = {name: one["type"] for name, one in arguments.items() if name not in ("video", "model")}
    numbers, texts = dict.fromkeys(("frames", "threshold"), "number"), dict.fromkeys(("labels", "chinese"), "string")
    assert types == {**texts, **numbers, "spans": "boolean"}
    assert arguments["model"]["enum"] == ["mini-actions", "mini"]
    assert all(one["description"] for one in arguments.values())
    is_error, text = answer
    assert not is_error
    record = ast.literal_eval(text)
    assert (record["model"], record["label"]) == ("mini-actions", "drinking")
    assert record["spans"][0]["label"] == "drinking"


def test_the_agent_of_the_docs_is_answered(url, clip, tmp_path, monkeypatch, capsys):
    pytest.importorskip("mcp", reason="pip install 'kinoclip[mcp]'")
    shutil.copy(clip, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    page = (SPACE.parents[1] / "docs" / "space.md").read_text()
    code = re.search(r"```python[^\n]*\n(.*?)```", page, re.DOTALL)[1].replace("http://127.0.0.1:7860", url)
    run_elsewhere(lambda: exec(compile(code, "space.md", "exec"), {}))
    assert "'label': 'drinking'" in capsys.readouterr().out


def test_what_an_agent_asks_wrongly_is_refused_with_a_sentence(url):
    _, answers = call_as_agent(
        url,
        {"video": "/etc/passwd", "labels": "drinking"},
        {"video": f"{url}/clip.mp4", "labels": "drinking"},
        {"video": "data:video/mp4;base64,bm8gdmlkZW8=", "labels": "drinking"},
    )
    assert [is_error for is_error, _ in answers] == [True] * 3
    assert "Invalid file data format, provide a url" in answers[0][1]
    assert answers[1][1] == "127.0.0.1: resolves to 127.0.0.1 in the local network."
    assert answers[2][1].startswith("This file cannot be used: ")


def test_the_function_is_the_only_one_that_is_public(client):
    assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/classify"]


def test_the_space_names_the_versions_it_is_tested_with():
    front = yaml.safe_load((SPACE / "README.md").read_text().split("---")[1])
    assert front["sdk"] == "gradio"
    assert (SPACE / front["app_file"]).is_file()
    tested = (SPACE.parents[1] / "constraints.txt").read_text().splitlines()
    pins = [line for line in (SPACE / "requirements.txt").read_text().splitlines() if "==" in line]
    assert pins[0].startswith("kinoclip[mcp]==")
    assert set(pins[1:]) <= set(tested)
    assert f"gradio=={front['sdk_version']}" in pins
