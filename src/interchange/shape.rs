//! One example as a line of JSON, in the shapes that trainers read.
//!
//! TRL: `prompt` with `completion`, or with `chosen` and `rejected`; texts (standard) or lists of
//! `{role, content}` (conversational). LLaMA-Factory: alpaca (`instruction`, `input`, `output`,
//! `system`) or sharegpt (`conversations` of `{from, value}`, `system`), with `chosen` and `rejected`
//! where `ranking` is set, and an entry in `dataset_info.json`. Sources: TRL's "Dataset formats and
//! types", LLaMA-Factory's `data/README.md`. Knows no limit.

use super::wording::Prompt;
use serde_json::{Value, json};

/// Which shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// TRL, lists of messages: the trainer applies the model's chat template.
    Trl,
    /// TRL, plain texts, for a model without turns.
    TrlStandard,
    /// LLaMA-Factory, alpaca.
    LlamaFactory,
    /// LLaMA-Factory, sharegpt.
    LlamaFactorySharegpt,
}

/// What follows a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// What to write.
    Completion(String),
    /// What to write rather than something else.
    Pair {
        /// The better.
        chosen: String,
        /// The worse.
        rejected: String,
    },
}

impl Shape {
    /// The line of one example.
    pub fn row(self, prompt: &Prompt, target: &Target) -> Value {
        match self {
            Self::Trl => {
                let says = |role: &str, content: &str| json!({ "role": role, "content": content });
                let turns = json!([says("system", prompt.system), says("user", &prompt.user())]);
                let reply = |text: &String| json!([says("assistant", text)]);
                match target {
                    Target::Completion(text) => {
                        json!({ "prompt": turns, "completion": reply(text) })
                    }
                    Target::Pair { chosen, rejected } => json!({
                        "prompt": turns, "chosen": reply(chosen), "rejected": reply(rejected),
                    }),
                }
            }
            Self::TrlStandard => {
                // The two are joined as they stand, so the space between belongs to one of them.
                let reply = |text: &String| format!(" {text}");
                let flat = prompt.flat();
                match target {
                    Target::Completion(text) => {
                        json!({ "prompt": flat, "completion": reply(text) })
                    }
                    Target::Pair { chosen, rejected } => json!({
                        "prompt": flat, "chosen": reply(chosen), "rejected": reply(rejected),
                    }),
                }
            }
            Self::LlamaFactory => {
                let Prompt { system, instruction, input, .. } = prompt;
                match target {
                    Target::Completion(text) => json!({
                        "instruction": instruction, "input": input, "output": text,
                        "system": system,
                    }),
                    Target::Pair { chosen, rejected } => json!({
                        "instruction": instruction, "input": input, "chosen": chosen,
                        "rejected": rejected, "system": system,
                    }),
                }
            }
            Self::LlamaFactorySharegpt => {
                let says = |from: &str, value: &str| json!({ "from": from, "value": value });
                let (system, user) = (prompt.system, says("human", &prompt.user()));
                match target {
                    Target::Completion(text) => json!({
                        "conversations": [user, says("gpt", text)], "system": system,
                    }),
                    Target::Pair { chosen, rejected } => json!({
                        "conversations": [user], "chosen": says("gpt", chosen),
                        "rejected": says("gpt", rejected), "system": system,
                    }),
                }
            }
        }
    }

    /// What LLaMA-Factory's `dataset_info.json` says of a file of such lines; `None` for TRL, which
    /// knows the columns by their names.
    pub fn dataset_info(self, file: &str, is_ranking: bool) -> Option<Value> {
        let (mut entry, prompt) = match self {
            Self::Trl | Self::TrlStandard => return None,
            Self::LlamaFactory => {
                let columns = json!({ "prompt": "instruction", "query": "input" });
                (json!({ "file_name": file, "formatting": "alpaca" }), columns)
            }
            Self::LlamaFactorySharegpt => {
                let columns = json!({ "messages": "conversations" });
                (json!({ "file_name": file, "formatting": "sharegpt" }), columns)
            }
        };
        let mut columns = prompt;
        columns["system"] = "system".into();
        if is_ranking {
            entry["ranking"] = true.into();
            columns["chosen"] = "chosen".into();
            columns["rejected"] = "rejected".into();
        } else if self == Self::LlamaFactory {
            columns["response"] = "output".into();
        }
        entry["columns"] = columns;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::super::wording::{Passage, Role};
    use super::*;

    fn prompt() -> Prompt {
        Prompt::new(Role::Reranker, "who?", &[Passage { title: "t", text: "x" }])
    }

    fn pair() -> Target {
        Target::Pair { chosen: "[1]".to_owned(), rejected: "None".to_owned() }
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn trl_has_messages_or_texts_under_the_columns_it_looks_for() {
        let row = Shape::Trl.row(&prompt(), &Target::Completion("[1]".to_owned()));
        assert_eq!(keys(&row), ["completion", "prompt"]);
        assert_eq!(row["prompt"][0]["role"], "system");
        assert_eq!(row["prompt"][1], json!({ "role": "user", "content": prompt().user() }));
        assert_eq!(row["completion"], json!([{ "role": "assistant", "content": "[1]" }]));
        let row = Shape::Trl.row(&prompt(), &pair());
        assert_eq!(keys(&row), ["chosen", "prompt", "rejected"]);
        assert_eq!(row["rejected"], json!([{ "role": "assistant", "content": "None" }]));
        let row = Shape::TrlStandard.row(&prompt(), &pair());
        let text =
            format!("{}{}", row["prompt"].as_str().unwrap(), row["chosen"].as_str().unwrap());
        assert!(text.ends_with("\n\nSelection: [1]"), "{text}");
    }

    #[test]
    fn llama_factory_finds_its_columns_by_the_entry_of_the_file() {
        let targets = [Target::Completion("[1]".to_owned()), pair()];
        for shape in [Shape::LlamaFactory, Shape::LlamaFactorySharegpt] {
            for target in &targets {
                let is_ranking = matches!(target, Target::Pair { .. });
                let row = shape.row(&prompt(), target);
                let info = shape.dataset_info("train.jsonl", is_ranking).unwrap();
                assert_eq!(info.get("ranking").is_some(), is_ranking);
                let columns = info["columns"].as_object().unwrap();
                let mut named: Vec<&str> = columns.values().filter_map(Value::as_str).collect();
                named.sort_unstable();
                assert_eq!(named, keys(&row), "{shape:?}");
            }
        }
        let row = Shape::LlamaFactorySharegpt.row(&prompt(), &targets[0]);
        // An odd number of messages without ranking, an even one with it, would be thrown away.
        assert_eq!(row["conversations"].as_array().unwrap().len(), 2);
        let row = Shape::LlamaFactorySharegpt.row(&prompt(), &pair());
        assert_eq!(row["conversations"].as_array().unwrap().len(), 1);
        assert_eq!(row["chosen"], json!({ "from": "gpt", "value": "[1]" }));
    }

    #[test]
    fn alpaca_and_sharegpt_train_on_one_user_turn() {
        let row = Shape::LlamaFactory.row(&prompt(), &pair());
        let joined =
            format!("{}\n{}", row["instruction"].as_str().unwrap(), row["input"].as_str().unwrap());
        assert_eq!(joined, prompt().user());
    }
}
