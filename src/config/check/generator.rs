//! The bounds of what answers in this process: answer head and memory.

use super::Check;
use crate::config::{Config, FallbackKind, GeneratorKind};

impl Check<'_> {
    pub(super) fn answers(&mut self, config: &Config) {
        let generator = &config.generator;
        if let Some(folder) = &generator.answer_head {
            self.filled("generator.answer_head", &folder.to_string_lossy());
            let fallback = generator.fallback.as_ref().map(|fallback| fallback.kind);
            let reads =
                generator.kind == GeneratorKind::Reader || fallback == Some(FallbackKind::Reader);
            if !reads {
                let why = "no reader answers: `generator.kind` is \"http\"";
                self.idle("generator.answer_head", why);
            }
        } else {
            let why = "only an answer head (`generator.answer_head`) gives long answers";
            self.idle("generator.long_words_max", why);
        }
        self.positive("generator.long_words_max", generator.long_words_max as f64);
        if generator.memory.is_empty() {
            let why = "there is no memory without files in `generator.memory`";
            self.idle("generator.memory_limits", why);
        }
        let limits = generator.memory_limits;
        self.positive("generator.memory_limits.entries_max", limits.entries_max as f64);
        let key = "generator.memory_limits.similarity_min";
        self.within(key, f64::from(limits.similarity_min), 0.0, 1.0);
    }
}
