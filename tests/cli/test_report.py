"""`keras-nas report`: an HTML page or JSON, and errors that say what to change."""

from __future__ import annotations

import json

import pytest

from keras_nas_plugin.cli.main import main
from keras_nas_plugin.reports import report_data
from tests.reports.conftest import evolve, failed, save, search_info


@pytest.fixture
def nas_report(tmp_path, monkeypatch, capsys):
    """Runs `keras-nas report` in the test's folder: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as end:
            main(["report", *words])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return end.value.code, output.out, output.err

    return run


@pytest.fixture
def digits(tmp_path):
    search = search_info(tmp_path / "searches" / "digits")
    return save(search, evolve(search, 6, failing=0.0))


def test_the_report_of_the_latest_search_is_written_by_default(nas_report, digits, tmp_path):
    code, out, err = nas_report()
    assert (code, out) == (0, "")
    assert err == "report.html: the report of digits\n"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and "<svg" in page


def test_the_report_of_a_named_search_is_written_to_the_path_given(nas_report, digits, tmp_path):
    (tmp_path / "pages").mkdir()
    code, _, _ = nas_report("--project-name", "digits", "--out", "pages/digits.html")
    assert code == 0
    assert (tmp_path / "pages" / "digits.html").stat().st_size > 10_000
    assert not (tmp_path / "report.html").exists()


def test_json_prints_the_numbers(nas_report, digits, tmp_path):
    code, out, err = nas_report("--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == report_data(digits)
    assert not (tmp_path / "report.html").exists()
    code, out, _ = nas_report("--json", "--out", "both.html")
    assert code == 0 and json.loads(out)["format"] == 1
    assert (tmp_path / "both.html").is_file()


def test_a_report_without_finished_trials_is_written_and_exits_with_3(nas_report, tmp_path):
    search = search_info(tmp_path / "searches" / "digits")
    save(search, [failed(1, {"width": 8}, "ValueError: no")])
    code, out, err = nas_report()
    assert (code, out) == (3, "")
    assert "No trial of digits has finished." in err
    assert "No trial has finished." in (tmp_path / "report.html").read_text(encoding="utf-8")
    code, out, _ = nas_report("--json")
    assert code == 3 and json.loads(out)["best"] is None


def test_a_missing_search_is_wrong_usage(nas_report, digits):
    code, out, err = nas_report("--directory", "nowhere")
    assert (code, out) == (2, "") and "`--directory` must be a folder with searches" in err
    code, out, err = nas_report("--project-name", "letters")
    assert (
        (code, out) == (2, "") and "`--project-name` must be a search" in err and "digits" in err
    )


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("nowhere/page.html", "`--out` must be a file that can be written; writing 'nowhere/page"),
        ("searches", "'searches' is a directory"),
    ],
)
def test_an_output_file_that_cannot_be_written_is_wrong_usage(nas_report, digits, out, message):
    code, printed, err = nas_report("--out", out)
    assert (code, printed) == (2, "")
    assert message in err


def test_the_error_names_a_damaged_record(nas_report, digits):
    (digits / "trial_0003" / "record.json").write_text("{", encoding="utf-8")
    code, out, err = nas_report()
    assert (code, out) == (1, "")
    assert "trial_0003" in err and "must hold JSON" in err


def test_help_names_the_options(nas_report):
    code, out, _ = nas_report("--help")
    assert code == 0
    assert all(option in out for option in ("--out", "--json", "--directory", "--project-name"))
