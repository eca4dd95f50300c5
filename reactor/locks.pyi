from collections.abc import Callable
from typing import TypeVar, final

_Method = TypeVar("_Method", bound=Callable[..., object])

@final
class Mutex:
    is_held: bool

def synchronized(name: str) -> Callable[[_Method], _Method]: ...
