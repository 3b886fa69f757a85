//! Settings by which a reward could leave its range, or nothing could be learned, are refused.

use crate::configs::error;

#[test]
fn weights_and_bounds_that_leave_the_range_of_rewards_are_refused() {
    for (text, expected) in [
        (
            "[judge.weights]\ncontext_tokens_max = 100\n",
            "set `judge.weights.context_tokens_max` to at least 2048",
        ),
        (
            "[judge.weights]\ndocument_cost = -0.1\ndocuments_max = 3\n",
            "costs are counted up to 3 documents, a selection may take 10",
        ),
        ("[judge.weights]\nhuman = -1.0\n", "weight `human` is -1"),
        (
            "[learner]\nobjective = \"dr\"\n[policy]\ntrainable = \"full\"\n",
            "expected \"head\" with `learner.objective = \"dr\"`",
        ),
    ] {
        let found = error(text);
        assert!(found.contains(expected), "{found}");
    }
}
