"""How many cores threads can use, with the interpreter's real lock, on a machine of two: what releases the lock for a
pair (decoding, resizing) becomes a wait of the same length, and only what holds it is computed.

    python tests/benchmarks/threads.py --held=1.6 --whole=28
"""

from __future__ import annotations

import argparse
import threading
import time

PARTS = 40  # of a pair, between which a thread gives the lock back and takes it again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", type=float, default=1.6, help="ms of a pair with the lock")
    parser.add_argument("--whole", type=float, default=28.0, help="ms of a pair")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 4, 8, 12, 16, 24, 32, 64])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each number of threads")
    args = parser.parse_args()
    held, whole = args.held / 1000, args.whole / 1000
    alone = pairs_per_second(1, held, whole, args.seconds)  # a wait takes longer than it is told to
    print("threads  as many as  in theory")
    for threads in args.threads:
        found = pairs_per_second(threads, held, whole, args.seconds) / alone
        print(f"{threads:7}  {found:10.1f}  {theory(threads, held / whole):9.1f}", flush=True)


def pairs_per_second(threads: int, held: float, whole: float, seconds: float) -> float:
    start = time.perf_counter()
    done = [0] * threads

    def work(number: int) -> None:
        while time.perf_counter() < start + seconds:
            for _ in range(PARTS):
                compute(held / PARTS)
                time.sleep((whole - held) / PARTS)
            done[number] += 1

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(done) / (time.perf_counter() - start)


def compute(seconds: float) -> None:
    """Holds the lock for so much of this thread's time on a core."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def theory(threads: int, share: float) -> float:
    """The speed of `threads` of which each needs one resource for a `share` of its time, by mean value analysis."""
    waiting, speed = 0.0, 0.0
    for number in range(1, threads + 1):
        held = share * (1 + waiting)
        speed = number / (held + 1 - share)
        waiting = speed * held
    return speed


if __name__ == "__main__":
    main()
