"""`lmp-dp help`: the pages are installed with the package and can be read in a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lmp_dp import cli
from lmp_dp.tools import help as help_tool

LMP_DP = str(Path(sys.executable).with_name("lmp-dp"))
PAGES = help_tool.pages()  # by importlib.resources, from where the package is installed


def on_a_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of the command where standard input and output are a terminal."""
    plain = {k: v for k, v in os.environ.items() if k not in ("LESS", "MANPAGER", "NO_COLOR")}
    master, terminal = pty.openpty()
    with subprocess.Popen(
        [LMP_DP, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**plain, "TERM": "xterm", "COLUMNS": "90", **environment},
    ) as process:
        os.close(terminal)
        shown = b""
        try:
            while part := os.read(master, 65536):
                shown += part
        except OSError:  # how Linux says that nobody has the terminal any more
            pass
        finally:
            os.close(master)
        return process.wait(60), shown.decode()


def test_topics_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help"]) == 0
    lines = capsys.readouterr().out.splitlines()[3:]
    assert [line.split()[0] for line in lines] == sorted(PAGES)
    assert {"pair_style", "models", "accuracy", "performance", "clusters", "schema"} <= set(PAGES)
    for line in lines:
        assert 20 < len(line) < 150


@pytest.mark.parametrize("topic", PAGES)
def test_a_page_has_a_title_and_a_sentence_on_itself(topic: str) -> None:
    title, paragraph, _ = PAGES[topic].split("\n\n", 2)
    assert re.fullmatch(r"# \S.*", title)
    assert re.fullmatch(r"[A-Z][^#|]*\.", paragraph)


def test_a_page_is_plain_markdown_where_it_is_not_read_in_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("pair_style", "pair-style", "Pair_Style.md"):
        assert cli.main(["help", name]) == 0
        assert capsys.readouterr() == (PAGES["pair_style"], "")


def test_an_unknown_topic_gives_what_is_close_and_what_there_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["help", "pairstile"]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("lmp-dp help: there is no page 'pairstile'; perhaps pair_style\n")
    for topic in PAGES:
        assert f"\n  {topic} " in errors
    assert cli.main(["help", "GCMC"]) == 2
    assert "'GCMC'; perhaps pair_style\n" in capsys.readouterr().err


def test_sections_by_words_of_their_titles_or_else_of_their_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["help", "models", "Compression"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("## Compression\n")
    assert text.count("\n## ") == 0
    assert text in PAGES["models"]
    message = "neighbours within the cutoff exceed the model's sel"
    assert cli.main(["help", "troubleshooting", message]) == 0
    assert message in capsys.readouterr().out
    assert cli.main(["help", "models", "compression", "unheard-of"]) == 2
    assert capsys.readouterr() == (
        "",
        "lmp-dp help: the page models has no section with 'compression unheard-of'\n",
    )


def test_a_terminal_gets_a_page_rendered_through_a_pager(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho paged with $LESS\nexec cat\n")
    pager.chmod(0o755)
    code, shown = on_a_terminal("help", "schema", PAGER=str(pager))
    assert code == 0
    assert "paged with -FRX" in shown
    assert "\x1b[" in shown  # colours
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert "| place |" not in plain
    assert re.search(r"^ */fitting/type_to +as the nets", plain, re.MULTILINE)
    assert max(map(len, plain.splitlines())) <= 90


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("[model deviation](#model-deviation)", "model deviation"),
        ("[accuracy](accuracy.md)", "`lmp-dp help accuracy`"),
        ("[figures](accuracy.md#md)", "figures (`lmp-dp help accuracy`)"),
        ("[LOG.md](../engine/LOG.md)", "lmp_dp/engine/LOG.md"),
        ("[an input](../../lammps_inputs/in.x)", "an input (lammps_inputs/in.x)"),
        ("![Time](../../a/b.png)", "Time (a/b.png)"),
        ("[ASE](https://ase-lib.org)", "[ASE](https://ase-lib.org)"),
        ("```\n[a](b.md)\n```", "```\n[a](b.md)\n```"),
    ],
)
def test_links_say_what_to_type_in_a_terminal(markdown: str, shown: str) -> None:
    assert help_tool.for_terminal(markdown) == shown


def test_equations_are_read_in_a_terminal_without_tex() -> None:
    shown = help_tool.for_terminal(
        "```math\nD_m = ∑_{a≤b} G^{ab}_{jk} / \\sqrt{e^{-r_{ij}} + 1}\n```"
    )
    assert shown == "```math\nD_m = ∑_(a≤b) G^(ab)_jk / √(e^(-r_ij) + 1)\n```"
    assert "\\" in PAGES["theory"]
    assert not re.search(r"[\\{}]", help_tool.for_terminal(PAGES["theory"]))


def test_pages_are_read_where_the_other_tools_cannot_be_imported() -> None:
    blocked = "import sys; sys.modules.update(dict.fromkeys(['h5py', 'numba', 'numpy', 'rich']))\n"
    done = subprocess.run(
        [sys.executable, "-c", blocked + "from lmp_dp import cli; cli.main(['help', 'models'])"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == PAGES["models"]
