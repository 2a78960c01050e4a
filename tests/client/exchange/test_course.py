"""Steps get answers and errors, and end at once with whoever takes them."""

import pytest

from vssl_client import ConnectionFailed
from vssl_client.exchange.course import Course
from vssl_client.exchange.steps import Pause, Steps


def taken(ended: list[str]) -> Steps[str]:
    """Three steps; it goes on after an error."""
    try:
        first = yield Pause(1)
        try:
            yield Pause(2)
        except ConnectionFailed as error:
            return f"{first}, {error}, {(yield Pause(3))}"
    finally:
        ended.append("yes")
    return "no error came"


def seconds(step: object) -> float:
    assert isinstance(step, Pause)
    return step.seconds


def test_each_step_gets_its_answer_or_its_error() -> None:
    ended: list[str] = []
    course = Course(taken(ended))
    for turn in course:
        with turn:
            if seconds(turn.step) == 2:
                raise ConnectionFailed("lost")
            turn.answer = f"answer {seconds(turn.step):g}"
    assert course.result == "answer 1, lost, answer 3"
    assert ended == ["yes"]


def test_an_error_of_the_steps_themselves_is_raised() -> None:
    def steps() -> Steps[str]:
        yield Pause(1)
        raise ConnectionFailed("after all retries")

    turns = iter(Course(steps()))
    with next(turns):
        pass
    with pytest.raises(ConnectionFailed, match="after all"):
        next(turns)


def test_what_is_no_error_of_a_client_ends_the_steps_before_it_is_seen() -> None:
    ended: list[str] = []
    turns = iter(Course(taken(ended)))
    with pytest.raises(KeyboardInterrupt), next(turns):
        raise KeyboardInterrupt
    assert ended == ["yes"]  # although `turns` is still held
