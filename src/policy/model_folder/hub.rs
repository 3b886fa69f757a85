//! Model folders from the Hugging Face hub: three files into the local cache.
//!
//! Compiled with the cargo feature `hub` only: the default build opens no outside connection.

use super::{CONFIG_FILE, ModelFolderError, TOKENIZER_FILE, WEIGHTS_FILE};
use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Repo, RepoType};
use std::path::{Path, PathBuf};

/// Downloads the files of `repository` (`owner/name`) at `revision` that are not cached under
/// `cache` yet, and returns their folder, ready for [`super::ModelFolder::load`].
pub fn fetch(repository: &str, revision: &str, cache: &Path) -> Result<PathBuf, ModelFolderError> {
    let failed = |file: &'static str, reason: String| ModelFolderError::Hub {
        repository: repository.to_owned(),
        file,
        reason,
    };
    let api = ApiBuilder::new()
        .with_cache_dir(cache.to_path_buf())
        .with_progress(false)
        .build()
        .map_err(|error| failed(CONFIG_FILE, error.to_string()))?;
    let repo = Repo::with_revision(repository.to_owned(), RepoType::Model, revision.to_owned());
    let files = api.repo(repo);
    let mut folder = None;
    for file in [CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE] {
        let path = files.get(file).map_err(|error| failed(file, error.to_string()))?;
        folder = path.parent().map(Path::to_path_buf);
    }
    folder.ok_or_else(|| failed(WEIGHTS_FILE, "the cache gave a path without a folder".to_owned()))
}
