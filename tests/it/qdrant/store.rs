//! What a Qdrant server keeps and how it ranks, exactly: every stored vector is compared.
//!
//! Strict where the real server is: vector names, dimensions, repeated indices, filters on fields
//! without an index. Ties come in an order of their own, as an engine's do.

use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    CollectionConfig, CollectionInfo, CollectionParams, CollectionStatus, Condition,
    CreateCollection, FieldCondition, Filter, Modifier, PayloadSchemaInfo, PayloadSchemaType,
    PointId, PointStruct, QueryPoints, ScoredPoint, SparseVector, Value, Vector, condition,
    r#match::MatchValue, point_id::PointIdOptions, query, value::Kind, vector, vector_input,
    vectors_config,
};
use std::collections::{BTreeMap, HashMap};
use tonic::Status;

/// One point.
#[derive(Clone)]
struct Point {
    id: PointId,
    payload: HashMap<String, Value>,
    /// Which dimensions of which sparse vectors it has; their values are in the postings.
    sparse: Vec<(String, u32)>,
    dense: HashMap<String, Vec<f32>>,
}

/// One collection.
pub(super) struct Collection {
    made: CreateCollection,
    indexed: HashMap<String, PayloadSchemaInfo>,
    /// Every point that ever was, in the place it keeps.
    points: Vec<Option<Point>>,
    /// Where the point of a key is.
    places: BTreeMap<String, usize>,
    /// Of each sparse vector and dimension the places of the points that have it.
    postings: HashMap<(String, u32), HashMap<usize, f32>>,
}

fn wrong(what: impl Into<String>) -> Status {
    Status::invalid_argument(format!("Wrong input: {}", what.into()))
}

pub(super) fn key(id: &PointId) -> String {
    match &id.point_id_options {
        Some(PointIdOptions::Uuid(uuid)) => uuid.clone(),
        Some(PointIdOptions::Num(number)) => number.to_string(),
        None => String::new(),
    }
}

impl Collection {
    pub(super) fn new(made: CreateCollection) -> Self {
        Self {
            made,
            indexed: HashMap::new(),
            points: Vec::new(),
            places: BTreeMap::new(),
            postings: HashMap::new(),
        }
    }

    pub(super) fn info(&self) -> CollectionInfo {
        let params = CollectionParams {
            vectors_config: self.made.vectors_config.clone(),
            sparse_vectors_config: self.made.sparse_vectors_config.clone(),
            ..CollectionParams::default()
        };
        let config = CollectionConfig {
            params: Some(params),
            metadata: self.made.metadata.clone(),
            ..CollectionConfig::default()
        };
        CollectionInfo {
            status: CollectionStatus::Green.into(),
            config: Some(config),
            payload_schema: self.indexed.clone(),
            points_count: Some(self.places.len() as u64),
            ..CollectionInfo::default()
        }
    }

    pub(super) fn index(&mut self, field: String) {
        let data_type = PayloadSchemaType::Keyword.into();
        self.indexed.insert(field, PayloadSchemaInfo { data_type, ..Default::default() });
    }

    pub(super) fn upsert(&mut self, points: Vec<PointStruct>) -> Result<(), Status> {
        for point in points {
            let id = point.id.ok_or_else(|| wrong("no point id"))?;
            let named = match point.vectors.and_then(|vectors| vectors.vectors_options) {
                Some(VectorsOptions::Vectors(named)) => named.vectors,
                Some(VectorsOptions::Vector(_)) => return Err(wrong("Not existing vector name: ")),
                None => HashMap::new(),
            };
            let (mut sparse, mut dense) = (Vec::new(), HashMap::new());
            for (name, vector) in named {
                match vector {
                    Vector { vector: Some(vector::Vector::Sparse(vector)), .. } => {
                        self.modifier(&name)?;
                        let entries = entries(&vector)?.into_iter();
                        sparse.extend(entries.map(|(index, value)| ((name.clone(), index), value)));
                    }
                    Vector { vector: Some(vector::Vector::Dense(vector)), .. } => {
                        self.check_size(&name, vector.data.len())?;
                        dense.insert(name, normalised(vector.data));
                    }
                    _ => return Err(wrong("a vector of another kind")),
                }
            }
            self.remove(&key(&id));
            let place = self.points.len();
            for (dimension, value) in &sparse {
                self.postings.entry(dimension.clone()).or_default().insert(place, *value);
            }
            let sparse = sparse.into_iter().map(|(dimension, _)| dimension).collect();
            self.places.insert(key(&id), place);
            self.points.push(Some(Point { id, payload: point.payload, sparse, dense }));
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, ids: &[PointId]) {
        ids.iter().for_each(|id| self.remove(&key(id)));
    }

    fn remove(&mut self, key: &str) {
        let Some(place) = self.places.remove(key) else { return };
        let Some(point) = self.points[place].take() else { return };
        for dimension in point.sparse {
            if let Some(postings) = self.postings.get_mut(&dimension) {
                postings.remove(&place);
            }
        }
    }

    fn alive(&self) -> impl Iterator<Item = &Point> {
        self.places.values().filter_map(|place| self.points[*place].as_ref())
    }

    pub(super) fn count(&self, filter: Option<&Filter>) -> Result<u64, Status> {
        self.check_filter(filter)?;
        let all = self.alive().filter(|point| passes(point, filter));
        Ok(all.count() as u64)
    }

    /// Points in the order of their ids, from `offset` on; and the id of the next.
    pub(super) fn scroll(
        &self,
        offset: Option<&PointId>,
        limit: usize,
    ) -> (Vec<(PointId, HashMap<String, Value>)>, Option<PointId>) {
        let from = offset.map(key).unwrap_or_default();
        let places = self.places.range(from..).map(|(_, place)| *place);
        let mut rest = places.filter_map(|place| self.points[place].as_ref());
        let page = rest.by_ref().take(limit).map(|p| (p.id.clone(), p.payload.clone())).collect();
        (page, rest.next().map(|point| point.id.clone()))
    }

    pub(super) fn query(&self, query: &QueryPoints) -> Result<Vec<ScoredPoint>, Status> {
        self.check_filter(query.filter.as_ref())?;
        let nearest = query.query.as_ref().and_then(|query| query.variant.as_ref());
        let Some(query::Variant::Nearest(input)) = nearest else {
            return Err(wrong("only nearest is known here"));
        };
        let name = query.using.clone().unwrap_or_default();
        let scores: Vec<(&Point, f32)> = match &input.variant {
            Some(vector_input::Variant::Sparse(vector)) => self.sparse(&name, vector)?,
            Some(vector_input::Variant::Dense(vector)) => {
                self.check_size(&name, vector.data.len())?;
                let asked = normalised(vector.data.clone());
                let score = |p: &'_ Point| Some(dot(p.dense.get(&name)?, &asked));
                self.alive().filter_map(|p| Some((p, score(p)?))).collect()
            }
            _ => return Err(wrong("a query of another kind")),
        };
        let filter = query.filter.as_ref();
        let mut hits: Vec<_> = scores.into_iter().filter(|(p, _)| passes(p, filter)).collect();
        let best = |a: &(&Point, f32), b: &(&Point, f32)| {
            b.1.total_cmp(&a.1).then_with(|| key(&b.0.id).cmp(&key(&a.0.id)))
        };
        let limit = usize::try_from(query.limit.unwrap_or(10)).unwrap();
        if limit < hits.len() {
            hits.select_nth_unstable_by(limit, best);
            hits.truncate(limit);
        }
        hits.sort_by(best);
        let found = |(point, score): (&Point, f32)| ScoredPoint {
            id: Some(point.id.clone()),
            payload: point.payload.clone(),
            score,
            ..ScoredPoint::default()
        };
        Ok(hits.into_iter().map(found).collect())
    }

    /// `Σ query · idf · value` over the shared dimensions; points that share none are not found.
    fn sparse(&self, name: &str, asked: &SparseVector) -> Result<Vec<(&Point, f32)>, Status> {
        let is_idf = self.modifier(name)? == Modifier::Idf;
        let all = self.places.len() as f32;
        let mut scores: Vec<Option<f32>> = vec![None; self.points.len()];
        for (index, value) in entries(asked)? {
            let Some(postings) = self.postings.get(&(name.to_owned(), index)) else { continue };
            let with = postings.len() as f32;
            let idf = ((all - with + 0.5) / (with + 0.5) + 1.0).ln();
            let weight = if is_idf { value * idf } else { value };
            for (place, stored) in postings {
                *scores[*place].get_or_insert_default() += weight * stored;
            }
        }
        let scored = self.points.iter().zip(scores);
        Ok(scored.filter_map(|(point, score)| Some((point.as_ref()?, score?))).collect())
    }

    fn modifier(&self, name: &str) -> Result<Modifier, Status> {
        let sparse = self.made.sparse_vectors_config.as_ref();
        let params = sparse.and_then(|sparse| sparse.map.get(name));
        let params = params.ok_or_else(|| wrong(format!("Not existing vector name: {name}")))?;
        Ok(params.modifier())
    }

    fn check_size(&self, name: &str, found: usize) -> Result<(), Status> {
        let config = self.made.vectors_config.as_ref().and_then(|config| config.config.as_ref());
        let size = match config {
            Some(vectors_config::Config::ParamsMap(map)) => map.map.get(name).map(|p| p.size),
            _ => None,
        };
        match size {
            None => Err(wrong(format!("Not existing vector name: {name}"))),
            Some(size) if size == found as u64 => Ok(()),
            Some(size) => {
                Err(wrong(format!("Vector dimension error: expected dim: {size}, got {found}")))
            }
        }
    }

    /// As a server in strict mode: a filter needs an index of its field.
    fn check_filter(&self, filter: Option<&Filter>) -> Result<(), Status> {
        let conditions = filter.map(|filter| filter.must.as_slice()).unwrap_or_default();
        for condition in conditions {
            let path = &field(condition).key;
            if !self.indexed.contains_key(path) {
                return Err(wrong(format!("Index required but not found for \"{path}\"")));
            }
        }
        Ok(())
    }
}

fn field(condition: &Condition) -> &FieldCondition {
    match &condition.condition_one_of {
        Some(condition::ConditionOneOf::Field(field)) => field,
        other => panic!("only conditions on fields are known here, not {other:?}"),
    }
}

fn passes(point: &Point, filter: Option<&Filter>) -> bool {
    let Some(filter) = filter else { return true };
    assert!(filter.should.is_empty() && filter.must_not.is_empty(), "only `must` is known here");
    filter.must.iter().all(|condition| {
        let field = field(condition);
        let found = at(&point.payload, &field.key);
        match field.r#match.as_ref().and_then(|m| m.match_value.as_ref()) {
            Some(MatchValue::Keyword(value)) => found == Some(value),
            Some(MatchValue::Keywords(values)) => {
                found.is_some_and(|found| values.strings.contains(found))
            }
            other => panic!("only keywords are known here, not {other:?}"),
        }
    })
}

/// The text at a dotted path.
fn at<'a>(payload: &'a HashMap<String, Value>, path: &str) -> Option<&'a String> {
    match (path.split_once('.'), payload) {
        (None, payload) => match &payload.get(path)?.kind {
            Some(Kind::StringValue(text)) => Some(text),
            _ => None,
        },
        (Some((first, rest)), payload) => match &payload.get(first)?.kind {
            Some(Kind::StructValue(inner)) => at(&inner.fields, rest),
            _ => None,
        },
    }
}

fn entries(vector: &SparseVector) -> Result<BTreeMap<u32, f32>, Status> {
    if vector.indices.len() != vector.values.len() {
        return Err(wrong("must be the same length as indices"));
    }
    let entries: BTreeMap<u32, f32> =
        vector.indices.iter().copied().zip(vector.values.iter().copied()).collect();
    if entries.len() < vector.indices.len() {
        return Err(wrong("must be unique"));
    }
    Ok(entries)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn normalised(mut vector: Vec<f32>) -> Vec<f32> {
    let length = dot(&vector, &vector).sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}
