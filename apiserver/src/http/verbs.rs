//! What is done for each verb.

use axum::body::Body;
use http::{HeaderMap, Response, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer;
use super::body::{self, Sent};
use super::evictions;
use super::gates::{self, User};
use super::lists;
use super::patches;
use super::questions;
use super::request::{Query, Request, Verb};
use super::watches;
use crate::codec::{self, Accepted, AsKind, Media};
use crate::engine::{DeleteOptions, Deleted, Engine, Updated, WriteOptions};
use crate::object::{Object, meta};
use crate::resources::{Resource, Subresource, Way};
use crate::rules;
use crate::status::{Cause, Details, Status};

/// One request on its way, past the gates that need no body.
pub(crate) struct Work<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) user: &'a User,
    pub(crate) request: &'a Request,
    pub(crate) headers: &'a HeaderMap,
}

impl Work<'_> {
    /// Does what is asked for.
    pub(crate) async fn done(&self, body: Body) -> Result<Response<Body>, Status> {
        match self.request.verb {
            Verb::Get => self.get().await,
            Verb::List => lists::list(self).await,
            Verb::Watch => watches::watch(self).await,
            Verb::Create => self.create(Sent::read(self.headers, body).await?).await,
            Verb::Update => self.update(Sent::read(self.headers, body).await?).await,
            Verb::Patch => patches::patch(self, Sent::read(self.headers, body).await?).await,
            Verb::Delete => self.delete(Sent::read(self.headers, body).await?).await,
            Verb::DeleteCollection => lists::delete(self, Sent::read(self.headers, body).await?).await,
        }
    }

    /// In which form an answer with objects is wanted.
    pub(crate) fn accepted(&self, media: &[Media], kinds: &[AsKind]) -> Result<Accepted, Status> {
        let accept = self.headers.get(header::ACCEPT);
        codec::negotiate(accept.and_then(|value| value.to_str().ok()), media, kinds)
    }

    /// How a write is to be made.
    pub(crate) fn write_options(&self) -> Result<WriteOptions, Status> {
        let kind = match self.request.verb {
            Verb::Create => "CreateOptions",
            Verb::Patch => "PatchOptions",
            Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
            _ => "UpdateOptions",
        };
        let mut options = write_options(&self.request.query, self.headers, kind)?;
        options.user.clone_from(&self.user.name);
        Ok(options)
    }

    /// An answer with the object that a request is about.
    pub(crate) fn answer(&self, code: StatusCode, object: &Object) -> Result<Response<Body>, Status> {
        let accepted = self.accepted(Media::ALL, answer::OF_ONE)?;
        let include = self.request.query.get("includeObject");
        answer::object(code, self.request.resource, object, &accepted, include)
    }

    /// An answer with the scale of the object that a request is about.
    pub(crate) fn answer_scale(&self, code: StatusCode, object: &Object) -> Result<Response<Body>, Status> {
        Ok(answer::json(
            code,
            answer::encode(&scale_of(self.request.resource, object)?)?,
        ))
    }

    async fn get(&self) -> Result<Response<Body>, Status> {
        let Request {
            resource,
            namespace,
            name,
            subresource,
            ..
        } = self.request;
        let accepted = self.accepted(Media::ALL, answer::OF_ONE)?;
        let found = self.engine.get(resource, namespace, name).await?;
        if *subresource == Some(Subresource::Scale) {
            return self.answer_scale(StatusCode::OK, &*found.object()?);
        }
        if (accepted.media, accepted.as_kind) == (Media::Json, AsKind::None) {
            return Ok(answer::json(StatusCode::OK, found.json().clone()));
        }
        let include = self.request.query.get("includeObject");
        answer::object(StatusCode::OK, resource, &*found.object()?, &accepted, include)
    }

    async fn create(&self, sent: Sent) -> Result<Response<Body>, Status> {
        let request = self.request;
        match request.subresource {
            Some(Subresource::Binding) => return self.bind(&sent).await,
            Some(Subresource::Eviction) => return self.evict(&sent).await,
            Some(Subresource::Token) => return questions::token(self, &sent).await,
            _ if request.resource.question => return questions::answer(self, &sent),
            _ => {}
        }
        let body::Decoded { mut object, warnings } = sent.object(request)?;
        gates::admit(self.user, request, &mut object)?;
        let options = self.write_options()?;
        let created = self
            .engine
            .create(request.resource, &request.namespace, object, &options)
            .await?;
        let response = self.answer(StatusCode::CREATED, &created)?;
        Ok(answer::warn(response, &warnings))
    }

    async fn update(&self, sent: Sent) -> Result<Response<Body>, Status> {
        let request = self.request;
        let options = self.write_options()?;
        if request.subresource == Some(Subresource::Scale) {
            let scale = sent.decode(SCALE_TYPE, &request.query)?.object;
            if meta(&scale, "name").is_empty() {
                return Err(body::nameless(&request.name));
            }
            let change = |current: Option<&Object>| {
                let current = current.ok_or_else(|| Status::not_found(request.resource, &request.name))?;
                let mut scaled = current.clone();
                rules::set_scale(request.resource, &mut scaled, &scale)?;
                Ok(scaled)
            };
            let updated = self.change(&options, change).await?;
            return self.answer_scale(StatusCode::OK, &updated.object);
        }
        let body::Decoded { mut object, warnings } = sent.object(request)?;
        gates::admit(self.user, request, &mut object)?;
        let change = |current: Option<&Object>| match current {
            Some(_) => Ok(object.clone()),
            None if request.resource.is(Way::MadeByUpdate) => Ok(object.clone()),
            None => Err(Status::not_found(request.resource, &request.name)),
        };
        let updated = self.change(&options, change).await?;
        let code = match updated.created {
            true => StatusCode::CREATED,
            false => StatusCode::OK,
        };
        let response = self.answer(code, &updated.object)?;
        Ok(answer::warn(response, &warnings))
    }

    /// Changes the object that the request is about.
    pub(crate) async fn change(
        &self,
        options: &WriteOptions,
        change: impl FnMut(Option<&Object>) -> Result<Object, Status> + Send,
    ) -> Result<Updated, Status> {
        let request = self.request;
        self.engine
            .update(
                request.resource,
                &request.namespace,
                &request.name,
                request.subresource,
                options,
                change,
            )
            .await
    }

    async fn bind(&self, sent: &Sent) -> Result<Response<Body>, Status> {
        let request = self.request;
        let binding = sent.decode(BINDING_TYPE, &request.query)?.object;
        let name = meta(&binding, "name");
        if !name.is_empty() && name != request.name {
            return Err(Status::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
        let change = |current: Option<&Object>| {
            let current = current.ok_or_else(|| Status::not_found(request.resource, &request.name))?;
            let mut bound = current.clone();
            rules::bind(&mut bound, &binding, Timestamp::now())?;
            Ok(bound)
        };
        let mut options = self.write_options()?;
        // To whom a pod is bound is nobody's.
        options.field_manager.clear();
        self.change(&options, change).await?;
        Ok(answer::success(StatusCode::CREATED, None))
    }

    async fn evict(&self, sent: &Sent) -> Result<Response<Body>, Status> {
        let request = self.request;
        let eviction = match sent.bytes.is_empty() {
            true => Object::new(),
            false => sent.decode(EVICTION_TYPE, &request.query)?.object,
        };
        let given = eviction.get("deleteOptions").and_then(Value::as_object);
        let (options, dry_run) = delete_options(given.unwrap_or(&Object::new()))?;
        let mut write = self.write_options()?;
        write.dry_run |= dry_run;
        evictions::evict(self, &options, &write).await?;
        Ok(answer::success(StatusCode::CREATED, None))
    }

    async fn delete(&self, sent: Sent) -> Result<Response<Body>, Status> {
        let request = self.request;
        let (options, write) = self.delete_options(&sent)?;
        let deleted = self
            .engine
            .delete(
                request.resource,
                &request.namespace,
                &request.name,
                &options,
                &write,
            )
            .await?;
        let orphans = request.resource.orphans().filter(|told| !told.is_empty());
        let warnings = orphans.filter(|_| options.propagation.is_none());
        let warnings: Vec<String> = warnings.into_iter().map(str::to_owned).collect();
        match deleted {
            Deleted::Marked(object) => Ok(answer::warn(self.answer(StatusCode::OK, &object)?, &warnings)),
            Deleted::Gone(object) if request.resource.is(Way::ShownWhenDeleted) => {
                self.answer(StatusCode::OK, &object)
            }
            Deleted::Gone(object) => {
                let details = Details {
                    name: request.name.clone(),
                    group: request.resource.group.to_owned(),
                    kind: request.resource.plural.to_owned(),
                    uid: meta(&object, "uid").to_owned(),
                    ..Details::default()
                };
                Ok(answer::success(StatusCode::OK, Some(&details)))
            }
        }
    }

    /// How a deletion is to be made, by the body or else the query, and how it is written.
    pub(crate) fn delete_options(&self, sent: &Sent) -> Result<(DeleteOptions, WriteOptions), Status> {
        let query = &self.request.query;
        let given = match sent.bytes.is_empty() {
            true => delete_options_of_query(query)?,
            false => sent.decode(DELETE_OPTIONS_TYPE, query)?.object,
        };
        let text = |field: &str| given.get(field).and_then(Value::as_str).unwrap_or_default();
        if !matches!(text("kind"), "" | "DeleteOptions") {
            let told = codec::unregistered(text("apiVersion"), text("kind"));
            return Err(Status::bad_request(told));
        }
        let (options, dry_run) = delete_options(&given)?;
        let mut write = self.write_options()?;
        write.dry_run |= dry_run;
        Ok((options, write))
    }
}

fn write_options(query: &Query, headers: &HeaderMap, kind: &str) -> Result<WriteOptions, Status> {
    let mut causes = Vec::new();
    let dry_run: Vec<&str> = query.all("dryRun").collect();
    causes.extend(unsupported_dry_run(&dry_run));
    let field_manager = query.get("fieldManager");
    if field_manager.len() > FIELD_MANAGER_BYTES_MAX {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {FIELD_MANAGER_BYTES_MAX} bytes"),
            field: "fieldManager".to_owned(),
        });
    }
    let odd = field_manager
        .chars()
        .enumerate()
        .find(|(_, char)| char.is_control());
    if let Some((at, char)) = odd {
        let told = format!("invalid character U+{:04X} (at position {at})", u32::from(char));
        causes.push(Cause::invalid("fieldManager", &field_manager.into(), &told));
    }
    if !causes.is_empty() {
        return Err(Status::invalid_options(kind, causes));
    }
    let dry_run = !dry_run.is_empty();
    let field_manager = match field_manager {
        // The program's name, as a real server takes it.
        "" => headers
            .get(header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .and_then(|agent| agent.split('/').next())
            .map(|agent| agent.chars().take(FIELD_MANAGER_BYTES_MAX).collect())
            .unwrap_or_default(),
        given => given.to_owned(),
    };
    Ok(WriteOptions {
        dry_run,
        field_manager,
        now: Timestamp::now(),
        ..WriteOptions::default()
    })
}

/// What is wrong with the ways in which nothing is to be done: there is only one.
fn unsupported_dry_run(given: &[&str]) -> Option<Cause> {
    let is_odd = given.iter().any(|way| *way != DRY_RUN_ALL);
    is_odd.then(|| Cause::not_supported("dryRun", &json!(given), &[DRY_RUN_ALL]))
}

/// `DeleteOptions` as parameters.
fn delete_options_of_query(query: &Query) -> Result<Object, Status> {
    let mut options = Object::new();
    if let Some(seconds) = query.number("gracePeriodSeconds")? {
        options.insert("gracePeriodSeconds".to_owned(), seconds.into());
    }
    if !query.get("propagationPolicy").is_empty() {
        options.insert(
            "propagationPolicy".to_owned(),
            query.get("propagationPolicy").into(),
        );
    }
    if !query.get("orphanDependents").is_empty() {
        options.insert(
            "orphanDependents".to_owned(),
            query.is_on("orphanDependents").into(),
        );
    }
    Ok(options)
}

/// Reads `DeleteOptions`, and whether nothing is to be done in truth.
fn delete_options(given: &Object) -> Result<(DeleteOptions, bool), Status> {
    let ways = given.get("dryRun").and_then(Value::as_array);
    let ways: Vec<&str> = ways.into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(cause) = unsupported_dry_run(&ways) {
        return Err(Status::invalid_options("DeleteOptions", vec![cause]));
    }
    Ok((DeleteOptions::of(given)?, !ways.is_empty()))
}

/// The scale of an object; its resource has one.
pub(crate) fn scale_of(resource: &Resource, object: &Object) -> Result<Object, Status> {
    rules::scale_of(resource, object).ok_or_else(Status::no_such_resource)
}

pub(crate) const SCALE_TYPE: &str = "io.k8s.api.autoscaling.v1.Scale";
const BINDING_TYPE: &str = "io.k8s.api.core.v1.Binding";
const EVICTION_TYPE: &str = "io.k8s.api.policy.v1.Eviction";
const DELETE_OPTIONS_TYPE: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const DRY_RUN_ALL: &str = "All";
/// As long as a real server lets a manager's name be.
const FIELD_MANAGER_BYTES_MAX: usize = 128;
