"""`python tests/simulation` lives histories through, and tells which violate an invariant.

- `--seeds 2000`: the seeds 0 to 1999, on all cores; `--first 5000`: begin with that one
- `--seed 7`: one history, with all that happened in it
- `--mutation no_fence`: with a safeguard removed; `--until-failure`: only until it is found out
- `--mutations`: with each safeguard removed, until each is found out
"""

import argparse
import sys
import time

from campaign import apart, campaign, first_failure, rate
from mutation import NOTHING, Mutation
from mutations import MUTATIONS

MOST_SHOWN = 20
REPORT_INTERVAL = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulation", description=__doc__, add_help=True)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), default=None)
    parser.add_argument("--until-failure", action="store_true")
    parser.add_argument("--mutations", action="store_true")
    parser.add_argument("--list-mutations", action="store_true")
    parser.add_argument("--processes", type=int)
    given = parser.parse_args()
    mutation = MUTATIONS.get(given.mutation, NOTHING)
    seeds = range(given.first, given.first + given.seeds)
    if given.list_mutations:
        print("\n".join(sorted(name for name, each in MUTATIONS.items() if not each.is_rare)))  # noqa: T201  it is for people
        return 0
    if given.seed is not None:
        return tell(given.seed, mutation)
    if given.mutations:
        found = [find_out(each, seeds, given.processes) for each in MUTATIONS.values()]
        return 0 if all(found) else 1
    if given.until_failure:
        return 1 if find_out(mutation, seeds, given.processes) else 0
    return survey(seeds, mutation, given.processes)


def tell(seed: int, mutation: Mutation) -> int:
    lived = apart(seed, mutation)
    print("\n".join(lived.lines))  # noqa: T201  it is for people
    print(f"seed {seed}: {lived.violation or 'all is well'}; digest {lived.digest}")  # noqa: T201
    return 1 if lived.violation else 0


def survey(seeds: range, mutation: Mutation, processes: int | None) -> int:
    """Live them all; print the failures, and from time to time how far it is."""
    began_at = said_at = time.perf_counter()
    failed: list[int] = []
    done, virtual = 0, 0.0
    for lived in campaign(seeds, mutation, processes=processes):
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
    print(f"{done} histories ({virtual / 3600:.1f} hours) in {took:.1f} s, {speed}: ", end="")  # noqa: T201
    print(f"{len(failed)} failed{replay}", flush=True)  # noqa: T201
    return 1 if failed or done < len(seeds) else 0


def find_out(mutation: Mutation, seeds: range, processes: int | None) -> bool:
    """Say at which seed a mutation is found out."""
    lived = first_failure(seeds, mutation, processes)
    found = f"seed {lived.seed}: {lived.violation}" if lived else "not found out"
    print(f"{mutation.name:20} {found}", flush=True)  # noqa: T201
    return lived is not None


if __name__ == "__main__":
    sys.exit(main())
