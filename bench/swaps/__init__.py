"""Hot swaps under load: no failed request, no mixed answer, memory flat, and what a second with a swap in it costs."""

from bench.swaps.result import SwapOptions, SwapResult
from bench.swaps.run import run_swaps
from bench.swaps.verdicts import judge, judge_answers, judge_sizes
from bench.swaps.versions import FORMATS, SwapError

__all__ = ["FORMATS", "SwapError", "SwapOptions", "SwapResult", "judge", "judge_answers", "judge_sizes", "run_swaps"]
