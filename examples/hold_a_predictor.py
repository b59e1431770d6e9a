"""A program that answers with whatever model serves, without ever being restarted.

    python examples/hold_a_predictor.py /var/lib/mmd inbox/seven.png inbox/two.png

Run it, let `mmd run` promote a new generation, and watch the generation change between two lines.
"""

import sys
import time

from mmd import Predictor


def main() -> None:
    state_dir, *pictures = sys.argv[1:]
    predictor = Predictor(state_dir)
    for picture in pictures:
        answer = predictor.predict(picture)
        print(f"{picture}: {answer.labels[0]} ({answer.probabilities[0].max():.0%}), generation {answer.generation}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
