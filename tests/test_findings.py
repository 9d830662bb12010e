"""A finding is made of whatever a question gives or raises."""

from __future__ import annotations

from rsbench.errors import DataError
from rsbench.findings import Check, Fault, attempt, failure_in_words, kinds_in_words, some


def raising(error: Exception) -> Check:
    def look() -> str:
        raise error

    return attempt("a question", look, next_step="the usual step")


def test_what_a_question_gives_is_a_good_answer() -> None:
    check = attempt("a question", lambda: "12 items", next_step="the usual step")

    assert check == Check(name="a question", ok=True, detail="12 items", next_step="")


def test_a_fault_brings_its_own_step() -> None:
    check = raising(Fault("must be 2, was 3", next_step="Take one away."))

    assert check == Check(
        name="a question", ok=False, detail="must be 2, was 3", next_step="Take one away."
    )


def test_a_user_s_fault_keeps_its_line() -> None:
    assert raising(DataError("no such folder")).detail == "no such folder"
    assert raising(DataError("no such folder")).next_step == "the usual step"


def test_a_stranger_s_exception_is_one_line_that_names_the_place() -> None:
    check = raising(ValueError("first line\nsecond line"))

    assert check.detail.startswith("raised ValueError: first line (test_findings.py, line ")
    assert check.detail.count("\n") == 0
    assert "no message" in raising(ValueError()).detail


def test_a_long_list_is_shortened() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(range(7)) == "0, 1, 2 and 4 more"
    assert some([]) == ""


def test_remarks_that_differ_in_numbers_only_are_of_one_kind() -> None:
    said = ["header claims 96 frames, 90 decode", "tags are not UTF-8"]

    assert kinds_in_words([*said, "header claims 7 frames, 1 decode"]) == (
        "header claims N frames, N decode (2); tags are not UTF-8 (1)"
    )
    assert kinds_in_words(["a", "b", "c", "d"]) == "a (1); b (1); c (1); ..."


def test_a_file_is_named_once_where_its_id_ends_with_its_name() -> None:
    assert failure_in_words("hug/2.avi", "2.avi: must be a video") == "hug/2.avi: must be a video"
    assert failure_in_words("hug/12.avi", "2.avi: must be") == "hug/12.avi: 2.avi: must be"
    assert failure_in_words("hug/2.avi", "no frame") == "hug/2.avi: no frame"
