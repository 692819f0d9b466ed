"""A miner of the Python coding challenge: submits one of four solutions, better with more skill.

Skill 0 answers the length of the first rising run, 1 tries every number as the first of a greedy
walk, 2 does it right in quadratic time, 3 in n log n. Other attempts carry another comment, so that
no two submissions are alike.
"""

FIRST_RUN = """
def solve(numbers):
    size = 1 if numbers else 0
    for before, number in zip(numbers, numbers[1:]):
        if number <= before:
            break
        size += 1
    return size
"""

GREEDY = """
def solve(numbers):
    best = 0
    for start in range(len(numbers)):
        size, last = 0, numbers[start] - 1
        for number in numbers[start:]:
            if number > last:
                size, last = size + 1, number
        best = max(best, size)
    return best
"""

QUADRATIC = """
def solve(numbers):
    best = []
    for i, number in enumerate(numbers):
        before = [best[j] for j in range(i) if numbers[j] < number]
        best.append(1 + max(before, default=0))
    return max(best, default=0)
"""

PATIENCE = """
from bisect import bisect_left

def solve(numbers):
    ends = []
    for number in numbers:
        at = bisect_left(ends, number)
        ends[at:at + 1] = [number]
    return len(ends)
"""

SOLUTIONS = (FIRST_RUN, GREEDY, QUADRATIC, PATIENCE)


def payload(skill: int, attempt: int) -> bytes:
    """Make the submission of a miner of `skill` 0..3 at its `attempt`: Python source, UTF-8."""
    return f"{SOLUTIONS[skill].strip()}\n# attempt {attempt}\n".encode()
