"""What the server did so far, in the text format of Prometheus."""

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)  # upper bounds of the buckets
HELP = {
    "conv_dlm_requests_total": ("counter", "requests by endpoint and status"),
    "conv_dlm_request_seconds": ("histogram", "seconds from a request to the end of its answer"),
    "conv_dlm_prompt_tokens_total": ("counter", "tokens of prompts"),
    "conv_dlm_generated_tokens_total": ("counter", "tokens of answers"),
    "conv_dlm_forwards_total": ("counter", "forward passes that answers took part in"),
    "conv_dlm_batches_total": ("counter", "batches that were denoised"),
    "conv_dlm_failures_total": ("counter", "batches that failed"),
    "conv_dlm_waiting": ("gauge", "answers that wait"),
    "conv_dlm_running": ("gauge", "answers that are being denoised"),
}


class Metrics:
    """Counters; any thread may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._seconds: dict[str, list[float]] = defaultdict(lambda: [0.0] * (len(SECONDS) + 2))  # buckets, count, sum

    def add(self, name: str, count: float = 1, **labels: object) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name, _labelled(labels)] += count  # type: ignore[assignment]

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self.add("conv_dlm_requests_total", endpoint=endpoint, status=status)
        with self._lock:
            row = self._seconds[endpoint]
            for place, bound in enumerate(SECONDS):
                row[place] += seconds <= bound
            row[-2] += 1
            row[-1] += seconds

    def text(self, now: Mapping[str, float]) -> str:
        """All of it, with the gauges as they are `now`."""
        lines = []
        with self._lock:
            for name, (kind, help_text) in HELP.items():
                lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
                if kind == "gauge":
                    lines.append(f"{name} {now[name]:g}")
                elif kind == "counter":
                    found = {labels: count for (its, labels), count in self._counts.items() if its == name}
                    if not found and name != "conv_dlm_requests_total":
                        found = {"": 0}
                    lines += [f"{name}{labels} {count:.15g}" for labels, count in found.items()]
                else:
                    for endpoint, row in self._seconds.items():
                        bounds = [*(f"{bound:g}" for bound in SECONDS), "+Inf"]
                        for bound, count in zip(bounds, row, strict=False):
                            lines.append(f"{name}_bucket{_labelled({'endpoint': endpoint, 'le': bound})} {count:g}")
                        label = _labelled({"endpoint": endpoint})
                        lines += [f"{name}_sum{label} {row[-1]:.6f}", f"{name}_count{label} {row[-2]:g}"]
        return "\n".join(lines) + "\n"


def _labelled(labels: Mapping[str, object]) -> str:
    inner = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""
