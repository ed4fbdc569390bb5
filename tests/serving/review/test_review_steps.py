"""Any steps in a review, also if it is killed, are undone to the byte, and replayed exactly."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from review_data import FORMS, open_review, read_data

from cutline.data import open_data
from cutline.serving.review.replacement import Replacement
from cutline.serving.review.row import clean_text
from cutline.serving.review.row_filter import RowFilter
from cutline.serving.review.text_pattern import TextPattern

ROWS = st.integers(0, 5)
TEXT = st.text(st.sampled_from("ab \n\t;,\"[]'ü🐕\\|{}#\u2028"), min_size=1, max_size=8)
WORDS = st.sampled_from(["a", "dog", "red", "ü", '"', "zwei Hunde", ""])


class ReviewMachine(RuleBasedStateMachine):
    """A review beside a model of it: text and state of each row, and a stack of these."""

    form = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = FORMS[self.form](self.folder)
        self.original = read_data(self.path)
        self.review = open_review(self.path)
        rows = self.review.describe_rows(self.review.select(RowFilter()))
        self.has_lines = [row["has_lines"] for row in rows]
        self.rows = [(row["text"], row["state"]) for row in rows]
        self.stack: list[list[tuple[str, str]]] = []

    def find(self, index: int) -> tuple[int, int]:
        number = self.review.select(RowFilter())[index]
        return number, self.review.find(number).version

    def expect(self, changes: dict[int, tuple[str, str]]) -> None:
        changed = [changes.get(index, row) for index, row in enumerate(self.rows)]
        if changed != self.rows:
            self.stack.append(self.rows)
            self.rows = changed

    @rule(index=ROWS)
    def accept(self, index: int) -> None:
        self.review.accept(*self.find(index))
        self.expect({index: (self.rows[index][0], "accepted")})

    @rule(index=ROWS, text=TEXT)
    def edit(self, index: int, text: str) -> None:
        new = clean_text(text, self.has_lines[index])
        if new:
            self.review.edit(*self.find(index), text, confirm=True)
            state = "accepted" if new == self.rows[index][0] else "edited"
            self.expect({index: (new, state)})

    @rule(index=ROWS)
    def reject(self, index: int) -> None:
        self.review.reject(*self.find(index), confirm=True)
        self.expect({index: (self.rows[index][0], "rejected")})

    @rule(old=WORDS.filter(bool), new=WORDS)
    def replace(self, old: str, new: str) -> None:
        replacement = Replacement(TextPattern(old, match_case=True), new)
        stamp = self.review.plan_replacement(replacement, RowFilter()).stamp
        self.review.replace(replacement, RowFilter(), stamp, confirm=True)
        changes = {}
        for index, (text, state) in enumerate(self.rows):
            changed = clean_text(text.replace(old, new), self.has_lines[index])
            if state != "rejected" and changed not in ("", text) and old in text:
                changes[index] = (changed, state if state == "not reviewed" else "edited")
        self.expect(changes)

    @precondition(lambda self: self.stack)
    @rule()
    def undo(self) -> None:
        assert self.review.undo() is not None
        self.rows = self.stack.pop()

    @precondition(lambda self: not self.stack)
    @rule()
    def undo_nothing(self) -> None:
        assert self.review.undo() is None

    @rule()
    def close_and_open(self) -> None:
        self.review.close()
        expected = [text for text, state in self.rows if text and state != "rejected"]
        if expected and self.form != "jsonl":  # whose line that is no row is an error in training
            captions = ["\n".join(sample.captions) for sample in open_data(self.path)]
            if self.form == "sidecars":
                assert [text for text in captions if text] == expected
            else:
                assert "\n".join(captions) == "\n".join(expected)
        self.review = open_review(self.path)

    @rule()
    def be_killed_and_open(self) -> None:
        self.review._store.close()  # as the end of the process does; nothing is written
        self.review = open_review(self.path)

    @invariant()
    def has_the_rows(self) -> None:
        rows = self.review.describe_rows(self.review.select(RowFilter()))
        assert [(row["text"], row["state"]) for row in rows] == self.rows

    def teardown(self) -> None:
        while self.review.undo():
            pass
        self.review.close()
        assert read_data(self.path) == self.original
        shutil.rmtree(self.folder)


@pytest.mark.parametrize("form", FORMS)
def test_replay_and_undo(form: str) -> None:
    run_machine(form, 5)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_replay_and_undo_at_length(form: str) -> None:
    run_machine(form, 200)


def run_machine(form: str, examples: int) -> None:
    machine = type("Machine", (ReviewMachine,), {"form": form}).TestCase
    machine.settings = settings(
        max_examples=examples,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    machine().runTest()
