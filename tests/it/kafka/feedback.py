"""Sends one piece of feedback a decision, as an application in Python would.

usage: feedback.py BOOTSTRAP TOPIC DECISION_ID...

The client's own partitioner is not the one of the Java clients: the service finds the feedback all the same.
"""

import json
import sys

from confluent_kafka import Producer


def main() -> int:
    bootstrap, topic, *decisions = sys.argv[1:]
    producer = Producer({"bootstrap.servers": bootstrap})
    failures: list[str] = []

    def delivered(error, _message) -> None:
        if error is not None:
            failures.append(str(error))

    for number, decision in enumerate(decisions):
        feedback = {
            "id": f"python-{number}",
            "decision_id": decision,
            "references": ["dan"],
            "source": "application",
        }
        producer.produce(
            topic,
            key=decision,
            value=json.dumps(feedback),
            headers={"ce_id": feedback["id"], "ce_source": "python"},
            on_delivery=delivered,
        )
    if producer.flush(30) > 0:
        failures.append("some feedback was not sent in time")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
