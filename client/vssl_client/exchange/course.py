"""Steps taken to their end, whoever takes them: in threads or in an event loop."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from vssl_client.errors import ClientError
from vssl_client.exchange.steps import Step, Steps

R = TypeVar("R")


class Course(Generic[R]):
    """`for turn in course: with turn: turn.answer = …` takes each `turn.step`; then `course.result` is there.

    Raises:
        ClientError, UsageError: the steps end with it.
    """

    result: R

    def __init__(self, steps: Steps[R]) -> None:
        self._steps = steps

    def __iter__(self) -> "Iterator[Turn]":
        try:
            turn = Turn(self._steps, next(self._steps))
            while True:
                yield turn
                turn = Turn(self._steps, self._steps.throw(turn.error) if turn.error else self._steps.send(turn.answer))
        except StopIteration as end:
            self.result = end.value


class Turn:
    """Around the taking of one step. A ClientError is an answer too; anything else ends the steps at once."""

    def __init__(self, steps: Steps[Any], step: Step) -> None:
        self.step = step
        self.answer: Any = None
        self.error: ClientError | None = None
        self._steps = steps

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, ClientError):
            self.error = error
        elif error is not None:
            self._steps.close()
        return self.error is not None
