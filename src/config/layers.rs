//! The layers of a configuration and how one is laid over another.
//!
//! Owns the merge rule: tables merge key by key, everything else (lists included) is replaced; a
//! table whose `kind` or `mode` changes is replaced whole, since its other keys belonged to the old
//! kind. Keeps the span of every key and value. Does not know what any key means.

use super::error::{ConfigError, Place, Problem};
use super::source::{Kind, Origin, Origins};
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

/// A merged table; its spans are global positions in [`Origins`], its text is borrowed from there.
pub(super) type Table<'t> = DeTable<'t>;
type Value<'t> = Spanned<DeValue<'t>>;

/// What an environment variable must start with to be read; sections follow, divided by `__`.
pub const ENV_PREFIX: &str = "REGRADE__";

/// Keys that say which variant of a table this is.
const DISCRIMINATORS: [&str; 2] = ["kind", "mode"];

/// What is laid over the built-in defaults, lowest first.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// TOML files; a later one wins.
    pub files: Vec<PathBuf>,
    /// Environment variables `(name, value)`; those without [`ENV_PREFIX`] are passed over.
    pub env: Vec<(String, String)>,
    /// `(flag as the user knows it, dotted key, value)`.
    pub flags: Vec<(String, String, String)>,
}

impl Layers {
    /// Files over the defaults, the environment of this process, then flags.
    pub fn of_process(files: Vec<PathBuf>, flags: Vec<(String, String, String)>) -> Self {
        // Sorted: the order of a process's environment is not defined and errors must repeat.
        let mut env: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(ENV_PREFIX))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        env.sort();
        Self { files, env, flags }
    }

    /// Reads every source, lowest layer first.
    pub(super) fn read(&self, defaults: &str) -> Result<Origins, ConfigError> {
        let mut origins = Origins::default();
        origins.add("built-in defaults", Kind::Defaults, defaults.to_owned());
        for path in &self.files {
            let name = path.display().to_string();
            let bytes = std::fs::read(path)
                .map_err(|source| ConfigError::Unreadable { path: name.clone(), source })?;
            let text = String::from_utf8(bytes)
                .map_err(|e| not_utf8(&name, e.as_bytes(), e.utf8_error().valid_up_to()))?;
            origins.add(&name, Kind::File, text);
        }
        for (name, value) in &self.env {
            if let Some(key) = name.strip_prefix(ENV_PREFIX) {
                let key = key.to_lowercase().replace("__", ".");
                origins.add(name, Kind::Assignment { key }, format!("{name}={value}"));
            }
        }
        for (flag, key, value) in &self.flags {
            let kind = Kind::Assignment { key: key.clone() };
            origins.add(flag, kind, format!("{flag}={value}"));
        }
        Ok(origins)
    }
}

/// Lays all sources over one another.
pub(super) fn merge(origins: &Origins) -> Result<Table<'_>, ConfigError> {
    let mut merged = Table::new();
    for origin in origins.iter() {
        match &origin.kind {
            Kind::Defaults | Kind::File => lay_over(&mut merged, parse(origins, origin)?),
            Kind::Assignment { key } => assign(origins, origin, key, &mut merged)?,
        }
    }
    Ok(merged)
}

fn parse<'t>(origins: &Origins, origin: &'t Origin) -> Result<Table<'t>, ConfigError> {
    match DeTable::parse(&origin.text) {
        Ok(root) => Ok(shift_table(root.into_inner(), origin.start)),
        Err(e) => {
            let span = e.span().unwrap_or(0..0);
            Err(ConfigError::Invalid(vec![Problem {
                place: origins.place(&(span.start + origin.start..span.end + origin.start)),
                message: format!("not valid TOML: {}", e.message()),
                remedy: "write one `key = value` a line below a `[section]`; strings are in quotes"
                    .to_owned(),
            }]))
        }
    }
}

/// Lays one `NAME=value` over the table. Where the key holds text, the value is taken as it is;
/// elsewhere it is read as TOML.
fn assign<'t>(
    origins: &Origins,
    origin: &'t Origin,
    key: &'t str,
    merged: &mut Table<'t>,
) -> Result<(), ConfigError> {
    let name = origin.name.as_str();
    let name_span = origin.start..origin.start + name.len();
    let value = &origin.text[name.len() + 1..];
    let value_start = origin.start + name.len() + 1;
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err(ConfigError::Invalid(vec![Problem {
            place: origins.place(&name_span),
            message: format!("`{name}` names no setting"),
            remedy: format!("write {ENV_PREFIX}SECTION__KEY, as in {ENV_PREFIX}SERVER__BIND"),
        }]));
    }
    let is_text = matches!(find(merged, key).map(|v| v.1.get_ref()), Some(DeValue::String(_)));
    let leaf = match DeValue::parse(value) {
        Ok(parsed) if !is_text || parsed.get_ref().is_str() => shift(parsed, value_start),
        _ => {
            let text = DeValue::String(DeString::Borrowed(value));
            Spanned::new(value_start..value_start + value.len(), text)
        }
    };
    let nested = key.rsplit('.').fold(leaf, |inner, part| {
        let mut table = Table::new();
        table.insert(Spanned::new(name_span.clone(), DeString::Borrowed(part)), inner);
        Spanned::new(name_span.clone(), DeValue::Table(table))
    });
    if let DeValue::Table(table) = nested.into_inner() {
        lay_over(merged, table);
    }
    Ok(())
}

fn lay_over<'t>(base: &mut Table<'t>, overlay: Table<'t>) {
    for (key, value) in overlay {
        let value_span = value.span();
        match (base.get_mut(key.get_ref().as_ref()), value.into_inner()) {
            (Some(old), DeValue::Table(over)) if merges(old.get_ref(), &over) => {
                if let DeValue::Table(inner) = old.get_mut() {
                    lay_over(inner, over);
                }
                // A missing or unknown key is reported where the section was last opened.
                let inner = std::mem::replace(old.get_mut(), DeValue::Boolean(false));
                *old = Spanned::new(value_span, inner);
            }
            (_, value) => {
                // Removed first: an insert alone keeps the old key, and with it the old span.
                base.remove(key.get_ref().as_ref());
                base.insert(key, Spanned::new(value_span, value));
            }
        }
    }
}

fn merges(old: &DeValue<'_>, over: &Table<'_>) -> bool {
    let DeValue::Table(old) = old else {
        return false;
    };
    DISCRIMINATORS.iter().all(|name| match (old.get(*name), over.get(*name)) {
        (Some(old), Some(over)) => old.get_ref().as_str() == over.get_ref().as_str(),
        _ => true,
    })
}

/// The key's and the value's spans and the value at a dotted key.
pub(super) fn find<'a, 't>(
    table: &'a Table<'t>,
    key: &str,
) -> Option<(Range<usize>, &'a Value<'t>)> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(a, b)| (a, Some(b)));
    let (name, value) = table.get_key_value(first)?;
    match (rest, value.get_ref()) {
        (None, _) => Some((name.span(), value)),
        (Some(rest), DeValue::Table(inner)) => find(inner, rest),
        (Some(_), _) => None,
    }
}

fn not_utf8(name: &str, bytes: &[u8], at: usize) -> ConfigError {
    let before = &bytes[..at];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
    let line_end = bytes[at..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |p| at + p);
    ConfigError::Invalid(vec![Problem {
        place: Place {
            source: name.to_owned(),
            line: Some(1 + before.iter().filter(|b| **b == b'\n').count()),
            column: 1 + String::from_utf8_lossy(&bytes[line_start..at]).chars().count(),
            text: String::from_utf8_lossy(&bytes[line_start..line_end]).into_owned(),
            width: 1,
        },
        message: "not UTF-8".to_owned(),
        remedy: "save the file as UTF-8".to_owned(),
    }])
}

fn shift(value: Value<'_>, offset: usize) -> Value<'_> {
    let span = value.span();
    let inner = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shift_table(table, offset)),
        DeValue::Array(array) => {
            DeValue::Array(array.into_iter().map(|v| shift(v, offset)).collect::<DeArray<'_>>())
        }
        other => other,
    };
    Spanned::new(span.start + offset..span.end + offset, inner)
}

fn shift_table(table: Table<'_>, offset: usize) -> Table<'_> {
    table
        .into_iter()
        .map(|(key, value)| {
            let span = key.span();
            let span = span.start + offset..span.end + offset;
            (Spanned::new(span, key.into_inner()), shift(value, offset))
        })
        .collect()
}
