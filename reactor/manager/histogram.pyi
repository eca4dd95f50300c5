from reactor.manager.sight import HistogramStats

BOUNDS_SECONDS: tuple[float, ...]

class Histogram:
    def observe(self, seconds: float) -> None: ...
    def snapshot(self) -> HistogramStats: ...
