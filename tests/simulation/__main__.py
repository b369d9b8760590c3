"""`python tests/simulation`: live histories through, and tell which violate an invariant.

--seeds 2000           the seeds 0 to 1999, on all cores
--first 5000           begin with this seed
--seed 7               one history, with all that happened
--mutation no_fence    with a safeguard removed; --mutations: with each, until it is found out
"""

import argparse
import sys
import time

from campaign import apart, campaign, first_failure, rate
from mutations import MUTATIONS, NOTHING, Mutation

MOST_SHOWN = 20
REPORT_INTERVAL = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__, add_help=True)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), default=None)
    parser.add_argument("--mutations", action="store_true")
    given = parser.parse_args()
    mutation = MUTATIONS.get(given.mutation, NOTHING)
    if given.seed is not None:
        return tell(given.seed, mutation)
    seeds = range(given.first, given.first + given.seeds)
    return try_mutations(seeds) if given.mutations else survey(seeds, mutation)


def tell(seed: int, mutation: Mutation) -> int:
    lived = apart(seed, mutation)
    print("\n".join(lived.lines))  # noqa: T201  it is for people
    print(f"seed {seed}: {lived.violation or 'all is well'}; digest {lived.digest}")  # noqa: T201
    return 1 if lived.violation else 0


def survey(seeds: range, mutation: Mutation) -> int:
    """Live them all; print the failures, and from time to time how far it is."""
    began_at = said_at = time.perf_counter()
    failed: list[int] = []
    done, virtual = 0, 0.0
    for lived in campaign(seeds, mutation):
        done += 1
        virtual += lived.seconds
        if lived.violation:
            failed.append(lived.seed)
            if len(failed) <= MOST_SHOWN:
                print(f"seed {lived.seed}: {lived.violation}", flush=True)  # noqa: T201
        if time.perf_counter() - said_at > REPORT_INTERVAL:
            said_at = time.perf_counter()
            speed = f"{rate(began_at, done):.0f} a second"
            print(f"{done}/{len(seeds)} histories, {speed}, {len(failed)} failed", flush=True)  # noqa: T201
    took = time.perf_counter() - began_at
    speed = f"{rate(began_at, done):.0f} a second"
    replay = f"; replay with --seed {min(failed)}" if failed else ""
    print(  # noqa: T201
        f"{done} histories ({virtual / 3600:.1f} hours) in {took:.1f} s, {speed}: {len(failed)} failed{replay}"
    )
    return 1 if failed or done < len(seeds) else 0


def try_mutations(seeds: range) -> int:
    """Show for each mutation at which seed it is found out."""
    unnoticed = 0
    for mutation in MUTATIONS.values():
        lived = first_failure(seeds, mutation)
        unnoticed += lived is None
        found = f"seed {lived.seed}: {lived.violation}" if lived else "not found out"
        print(f"{mutation.name:28} {found}", flush=True)  # noqa: T201
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
