//! Lists: one revision on all pages, what tokens and versions mean, and what is said when history is gone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod harness;

use std::time::Instant;

use apiserver::engine::{Engine, Item, ListOptions, Listed, Settings};
use apiserver::object::meta;
use apiserver::select::Fields;
use apiserver::status::{Reason, Status};

use harness::*;

fn names(listed: &Listed) -> Vec<String> {
    let name = |item: &std::sync::Arc<Item>| meta(&item.object().unwrap(), "name").to_owned();
    listed.items.iter().map(name).collect()
}

async fn list(engine: &Engine, namespace: Option<&str>, options: &ListOptions) -> Result<Listed, Status> {
    engine.list(resource("configmaps"), namespace, options).await
}

async fn fill(engine: &Engine, count: usize) {
    for number in 0..count {
        let app = if number % 3 == 0 { "third" } else { "other" };
        create(engine, "default", configmap(&format!("c{number:03}"), app, "1")).await;
    }
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    let Some(store) = Store::start("pages_are_of_one_revision").await else {
        return;
    };
    let engine = store.ready().await;
    fill(&engine, 25).await;
    let mut options = ListOptions {
        limit: 10,
        ..ListOptions::default()
    };
    let first = list(&engine, Some("default"), &options).await.unwrap();
    assert_eq!(first.revision, store.revision().await);
    assert_eq!((first.items.len(), first.remaining), (10, Some(15)));
    // What happens in between is not seen.
    delete(&engine, "default", "c015").await.unwrap();
    create(&engine, "default", configmap("c0155", "x", "1")).await;
    set(&engine, "default", "c016", "2").await.unwrap();

    options.continue_ = first.continue_.clone();
    let second = list(&engine, Some("default"), &options).await.unwrap();
    assert_eq!((second.revision, second.remaining), (first.revision, Some(5)));
    options.continue_ = second.continue_.clone();
    options.limit = 5;
    let third = list(&engine, Some("default"), &options).await.unwrap();
    assert_eq!(
        (third.revision, &third.continue_, third.remaining),
        (first.revision, &None, None)
    );
    let all: Vec<_> = [first, second, third].iter().flat_map(names).collect();
    let expected: Vec<_> = (0..25).map(|number| format!("c{number:03}")).collect();
    assert_eq!(all, expected);

    let now = list(&engine, None, &ListOptions::default()).await.unwrap();
    assert_eq!(names(&now).len(), 25);
    assert!(names(&now).contains(&"c0155".to_owned()));
}

/// However few keys are read at once, and however few of them are selected.
#[tokio::test]
async fn selected_objects_come_in_pages_too() {
    let Some(store) = Store::start("selected_objects_come_in_pages").await else {
        return;
    };
    let engine = store.ready().await;
    fill(&engine, 30).await;
    let small = store.engine(Settings {
        list_page_keys: 4,
        ..settings()
    });
    for engine in [&engine, &small] {
        for limit in [0, 1, 3, 10, 100] {
            let mut options = ListOptions {
                limit,
                ..labelled("app=third")
            };
            let mut all = Vec::new();
            loop {
                let page = list(engine, Some("default"), &options).await.unwrap();
                assert!(limit == 0 || page.items.len() <= usize::try_from(limit).unwrap());
                assert_eq!(page.remaining, None);
                all.extend(names(&page));
                options.continue_ = page.continue_;
                if options.continue_.is_none() {
                    break;
                }
            }
            let expected: Vec<_> = (0..30).step_by(3).map(|number| format!("c{number:03}")).collect();
            assert_eq!(all, expected, "limit {limit}");
        }
    }
    let mut options = ListOptions {
        fields: Fields::parse(resource("configmaps"), "metadata.name=c007").unwrap(),
        ..ListOptions::default()
    };
    for namespace in [None, Some("default")] {
        assert_eq!(names(&list(&small, namespace, &options).await.unwrap()), ["c007"]);
    }
    assert_eq!(
        names(&list(&small, Some("kube-system"), &options).await.unwrap()),
        [""; 0]
    );
    options.fields = Fields::parse(resource("configmaps"), "metadata.name=c00").unwrap();
    assert_eq!(
        names(&list(&small, Some("default"), &options).await.unwrap()),
        [""; 0]
    );
}

#[tokio::test]
async fn versions_are_exact_or_at_least() {
    let Some(store) = Store::start("versions_are_exact_or_at_least").await else {
        return;
    };
    let engine = store.ready().await;
    fill(&engine, 3).await;
    let then = store.revision().await;
    delete(&engine, "default", "c001").await.unwrap();
    let at = |version: i64, how: &str| ListOptions {
        resource_version: Some(version.to_string()),
        version_match: Some(how.to_owned()),
        ..ListOptions::default()
    };
    let exact = list(&engine, None, &at(then, "Exact")).await.unwrap();
    assert_eq!((exact.revision, exact.items.len()), (then, 3));
    let newer = list(&engine, None, &at(then, "NotOlderThan")).await.unwrap();
    assert_eq!((newer.revision, newer.items.len()), (then + 1, 2));

    let start = Instant::now();
    for how in ["NotOlderThan", "Exact"] {
        let refused = list(&engine, None, &at(then + 100, how)).await.unwrap_err();
        assert_eq!((refused.code, refused.reason), (504, Reason::Timeout), "{how}");
        assert_eq!(refused.details.causes[0].reason, "ResourceVersionTooLarge");
        assert_eq!(refused.details.retry_after_seconds, 1);
    }
    assert!(
        start.elapsed().as_millis() >= 3000,
        "it waits for what may come yet"
    );
    // What comes while it waits is what it waits for.
    let options = at(then + 2, "NotOlderThan");
    let (waited, _) = futures_util::future::join(list(&engine, None, &options), async {
        create(&engine, "default", configmap("d", "x", "1")).await
    })
    .await;
    assert!(waited.unwrap().revision >= then + 2);

    store.compact(then + 1).await;
    let refused = list(&engine, None, &at(then, "Exact")).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (410, Reason::Expired));
    assert_eq!(
        refused.message,
        "The resourceVersion for the provided list is too old."
    );
}

#[tokio::test]
async fn a_list_whose_history_is_gone_can_be_continued() {
    let Some(store) = Store::start("a_list_whose_history_is_gone").await else {
        return;
    };
    let engine = store.ready().await;
    fill(&engine, 10).await;
    let mut options = ListOptions {
        limit: 4,
        ..ListOptions::default()
    };
    let first = list(&engine, Some("default"), &options).await.unwrap();
    delete(&engine, "default", "c005").await.unwrap();
    store.compact(store.revision().await).await;
    options.continue_ = first.continue_.clone();
    let refused = list(&engine, Some("default"), &options).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (410, Reason::Expired));
    assert!(
        refused
            .message
            .starts_with("The provided continue parameter is too old")
    );
    let token = refused.to_value()["metadata"]["continue"]
        .as_str()
        .unwrap()
        .to_owned();
    options.continue_ = Some(token);
    options.limit = 100;
    let rest = list(&engine, Some("default"), &options).await.unwrap();
    assert_eq!(names(&rest), ["c004", "c006", "c007", "c008", "c009"]);
    assert!(rest.revision > first.revision);
    // A token of one namespace is none of another.
    let elsewhere = ListOptions {
        continue_: first.continue_,
        ..ListOptions::default()
    };
    let refused = engine.list(resource("configmaps"), None, &elsewhere).await;
    // Of all namespaces `c003` would be one: there is nothing behind the last of them.
    assert!(refused.is_err() || names(&refused.unwrap()).is_empty());
}
