from collections.abc import Callable
from typing import TypeVar

_Method = TypeVar("_Method", bound=Callable[..., object])

def synchronized(name: str) -> Callable[[_Method], _Method]: ...
