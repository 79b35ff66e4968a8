//! The messages in which old clients take OpenAPI v2: those of gnostic's `openapi.v2`, as far as the document uses them.
//! Where gnostic has a `oneof`, there are optional fields here of which one is set; on the wire that is the same.
//!
//! | message | fields left out here |
//! | --- | --- |
//! | `Document` | host, basePath, schemes, the shared parameters and responses, security, tags, external documents |
//! | `Operation` | summary, id, external documents, schemes, deprecation, security |
//! | `Schema` | numeric and length limits, enumerations, allOf, discriminators, XML, external documents, examples |

use prost::Message;
use serde_json::{Map, Value};

/// The document, as protobuf, of one in JSON as `v2` makes it.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    Document::of(document).encode_to_vec()
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Document {
    #[prost(string, tag = "1")]
    pub(super) swagger: String,
    #[prost(message, optional, tag = "2")]
    pub(super) info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    pub(super) paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    pub(super) definitions: Option<NamedSchemas>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub(super) title: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Paths {
    #[prost(message, repeated, tag = "2")]
    pub(super) path: Vec<NamedPathItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedPathItem {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PathItem {
    #[prost(message, optional, tag = "2")]
    pub(super) get: Option<Operation>,
    #[prost(message, optional, tag = "3")]
    pub(super) put: Option<Operation>,
    #[prost(message, optional, tag = "4")]
    pub(super) post: Option<Operation>,
    #[prost(message, optional, tag = "5")]
    pub(super) delete: Option<Operation>,
    #[prost(message, optional, tag = "8")]
    pub(super) patch: Option<Operation>,
    #[prost(message, repeated, tag = "9")]
    pub(super) parameters: Vec<ParametersItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Operation {
    #[prost(string, repeated, tag = "1")]
    pub(super) tags: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) description: String,
    #[prost(string, repeated, tag = "6")]
    pub(super) produces: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    pub(super) consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    pub(super) parameters: Vec<ParametersItem>,
    #[prost(message, optional, tag = "9")]
    pub(super) responses: Option<Responses>,
    #[prost(message, repeated, tag = "13")]
    pub(super) vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    pub(super) parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Parameter {
    #[prost(message, optional, tag = "1")]
    pub(super) body: Option<BodyParameter>,
    #[prost(message, optional, tag = "2")]
    pub(super) non_body: Option<NonBodyParameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BodyParameter {
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) r#in: String,
    #[prost(bool, tag = "4")]
    pub(super) required: bool,
    #[prost(message, optional, tag = "5")]
    pub(super) schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NonBodyParameter {
    #[prost(message, optional, tag = "3")]
    pub(super) query: Option<QueryParameter>,
    #[prost(message, optional, tag = "4")]
    pub(super) path: Option<PathParameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryParameter {
    #[prost(string, tag = "2")]
    pub(super) r#in: String,
    #[prost(string, tag = "4")]
    pub(super) name: String,
    #[prost(string, tag = "6")]
    pub(super) r#type: String,
    #[prost(bool, tag = "20")]
    pub(super) unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PathParameter {
    #[prost(bool, tag = "1")]
    pub(super) required: bool,
    #[prost(string, tag = "2")]
    pub(super) r#in: String,
    #[prost(string, tag = "4")]
    pub(super) name: String,
    #[prost(string, tag = "5")]
    pub(super) r#type: String,
    #[prost(bool, tag = "19")]
    pub(super) unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Responses {
    #[prost(message, repeated, tag = "1")]
    pub(super) response_code: Vec<NamedResponse>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedResponse {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<ResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseValue {
    #[prost(message, optional, tag = "1")]
    pub(super) response: Option<Response>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(string, tag = "1")]
    pub(super) description: String,
    #[prost(message, optional, tag = "2")]
    pub(super) schema: Option<SchemaItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SchemaItem {
    #[prost(message, optional, tag = "1")]
    pub(super) schema: Option<Schema>,
}

/// What gnostic calls `Definitions`, and `Properties` within a schema.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedSchemas {
    #[prost(message, repeated, tag = "1")]
    pub(super) schemas: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedSchema {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Schema {
    #[prost(string, tag = "1")]
    pub(super) reference: String,
    #[prost(string, tag = "2")]
    pub(super) format: String,
    #[prost(string, tag = "4")]
    pub(super) description: String,
    #[prost(string, repeated, tag = "19")]
    pub(super) required: Vec<String>,
    #[prost(message, optional, boxed, tag = "21")]
    pub(super) additional_properties: Option<Box<AdditionalProperties>>,
    #[prost(message, optional, tag = "22")]
    pub(super) r#type: Option<Texts>,
    #[prost(message, optional, tag = "23")]
    pub(super) items: Option<Items>,
    #[prost(message, optional, tag = "25")]
    pub(super) properties: Option<NamedSchemas>,
    #[prost(message, repeated, tag = "31")]
    pub(super) vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AdditionalProperties {
    #[prost(message, optional, tag = "1")]
    pub(super) schema: Option<Schema>,
    #[prost(bool, optional, tag = "2")]
    pub(super) boolean: Option<bool>,
}

/// What gnostic calls `TypeItem`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub(super) value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Items {
    #[prost(message, repeated, tag = "1")]
    pub(super) schema: Vec<Schema>,
}

/// A vendor's extension.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedAny {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "2")]
    pub(super) yaml: String,
}

impl Document {
    fn of(document: &Value) -> Document {
        let info = &document["info"];
        let paths = entries(&document["paths"]).map(|(name, item)| NamedPathItem {
            name: name.clone(),
            value: Some(PathItem::of(item)),
        });
        Document {
            swagger: text(&document["swagger"]),
            info: Some(Info {
                title: text(&info["title"]),
                version: text(&info["version"]),
            }),
            paths: Some(Paths {
                path: paths.collect(),
            }),
            definitions: Some(NamedSchemas::of(&document["definitions"])),
        }
    }
}

impl PathItem {
    fn of(item: &Value) -> PathItem {
        PathItem {
            get: item.get("get").map(Operation::of),
            put: item.get("put").map(Operation::of),
            post: item.get("post").map(Operation::of),
            delete: item.get("delete").map(Operation::of),
            patch: item.get("patch").map(Operation::of),
            parameters: elements(&item["parameters"]).map(ParametersItem::of).collect(),
        }
    }
}

impl Operation {
    fn of(operation: &Value) -> Operation {
        let responses = entries(&operation["responses"]).map(|(code, response)| NamedResponse {
            name: code.clone(),
            value: Some(ResponseValue {
                response: Some(Response {
                    description: text(&response["description"]),
                    schema: Some(SchemaItem {
                        schema: response.get("schema").map(Schema::of),
                    }),
                }),
            }),
        });
        Operation {
            tags: texts(&operation["tags"]),
            description: text(&operation["description"]),
            produces: texts(&operation["produces"]),
            consumes: texts(&operation["consumes"]),
            parameters: elements(&operation["parameters"])
                .map(ParametersItem::of)
                .collect(),
            responses: Some(Responses {
                response_code: responses.collect(),
            }),
            vendor_extension: extensions(operation),
        }
    }
}

impl ParametersItem {
    fn of(parameter: &Value) -> ParametersItem {
        let (name, r#in) = (text(&parameter["name"]), text(&parameter["in"]));
        let r#type = text(&parameter["type"]);
        let (required, unique_items) = (is_set(&parameter["required"]), is_set(&parameter["uniqueItems"]));
        let mut made = Parameter::default();
        match r#in.as_str() {
            "body" => {
                made.body = Some(BodyParameter {
                    name,
                    r#in,
                    required,
                    schema: parameter.get("schema").map(Schema::of),
                });
            }
            "path" => {
                let path = PathParameter {
                    required,
                    r#in,
                    name,
                    r#type,
                    unique_items,
                };
                made.non_body = Some(NonBodyParameter {
                    query: None,
                    path: Some(path),
                });
            }
            _ => {
                let query = QueryParameter {
                    r#in,
                    name,
                    r#type,
                    unique_items,
                };
                made.non_body = Some(NonBodyParameter {
                    query: Some(query),
                    path: None,
                });
            }
        }
        ParametersItem {
            parameter: Some(made),
        }
    }
}

impl NamedSchemas {
    fn of(schemas: &Value) -> NamedSchemas {
        let schemas = entries(schemas).map(|(name, schema)| NamedSchema {
            name: name.clone(),
            value: Some(Schema::of(schema)),
        });
        NamedSchemas {
            schemas: schemas.collect(),
        }
    }
}

impl Schema {
    fn of(schema: &Value) -> Schema {
        let additional = schema
            .get("additionalProperties")
            .map(|additional| AdditionalProperties {
                schema: additional.is_object().then(|| Schema::of(additional)),
                boolean: additional.as_bool(),
            });
        Schema {
            reference: text(&schema["$ref"]),
            format: text(&schema["format"]),
            description: text(&schema["description"]),
            required: texts(&schema["required"]),
            additional_properties: additional.map(Box::new),
            r#type: schema.get("type").map(|of| Texts {
                value: vec![text(of)],
            }),
            items: schema.get("items").map(|items| Items {
                schema: vec![Schema::of(items)],
            }),
            properties: schema.get("properties").map(NamedSchemas::of),
            vendor_extension: extensions(schema),
        }
    }
}

/// The vendors' extensions among the fields. All JSON is YAML.
fn extensions(value: &Value) -> Vec<NamedAny> {
    entries(value)
        .filter(|(name, _)| name.starts_with("x-"))
        .map(|(name, value)| NamedAny {
            name: name.clone(),
            value: Some(Any {
                yaml: format!("{value}\n"),
            }),
        })
        .collect()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    elements(value).map(text).collect()
}

fn is_set(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}
