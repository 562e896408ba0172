"""What is only for show never costs the result."""

import pytest

from hf_replearn.sharing.show import try_to_show


def test_what_can_be_made_is_returned(capsys):
    assert try_to_show("the page", lambda: 3) == (3, None)
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_made_is_said_in_one_line(capsys):
    made, note = try_to_show("the page", lambda: [][0])
    assert made is None and note == "the page could not be made: IndexError: list index out of range"
    assert capsys.readouterr().err == f"warning: {note}\n"


def test_ctrl_c_is_no_fault_of_what_is_shown():
    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_to_show("the page", stopped)
