//! The gateway for fuzzing: JSON to messages and back. The first byte of an input chooses the route, the second the
//! direction.

use bytes::Bytes;

use super::{json, routes};

/// Whatever can be read is the same once it is written and read again.
pub(crate) fn one_input(data: &[u8]) {
    let (Some(&route), Some(&direction), Some(rest)) = (data.first(), data.get(1), data.get(2..)) else {
        return;
    };
    let path = PATHS[usize::from(route) % PATHS.len()];
    let route = routes::find(path).expect("the list names routes");
    if direction & 1 == 0 {
        let Ok(mut frames) = json::frame(&route.input, rest) else {
            return;
        };
        let message = json::unframe(&mut frames)
            .expect("not compressed")
            .expect("whole");
        assert!(frames.is_empty(), "one message");
        let written =
            json::object(&route.input, message.clone(), "", "").expect("what was read can be written");
        let mut again = json::frame(&route.input, &written).expect("what was written can be read");
        let again = json::unframe(&mut again).expect("not compressed").expect("whole");
        assert_eq!(again, message, "{}", String::from_utf8_lossy(&written));
    } else {
        let mut frames = Bytes::copy_from_slice(rest);
        while let Ok(Some(message)) = json::unframe(&mut frames) {
            if let Ok(written) = json::object(&route.output, message, "{\"result\":", "}") {
                let read: Result<serde_json::Value, _> = serde_json::from_slice(&written);
                assert!(read.is_ok(), "no JSON: {}", String::from_utf8_lossy(&written));
            }
        }
    }
}

/// A request for each route, in JSON, and answers in frames.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let requests: [&[u8]; 9] = [
        b"{}",
        br#"{"key":"Zm9v","range_end":"Zm9w","limit":"7","sort_order":"DESCEND","sort_target":2,"keysOnly":true}"#,
        br#"{"key":"-_8","value":"","lease":"-5","prev_kv":true,"ignoreLease":false}"#,
        br#"{"compare":[{"result":"EQUAL","target":"VALUE","key":"YQ==","value":"Yg=="}],"success":[{"request_put":{"key":"YQ==","value":"YQ=="}},{"requestTxn":{"failure":[{"request_range":{"key":"YQ=="}}]}}]}"#,
        br#"{"create_request":{"key":"YQ==","filters":["NOPUT",1],"watch_id":3}}"#,
        br#"{"TTL":9,"ID":"-5"}"#,
        br#"{"peerURLs":["http://a:1"],"isLearner":true}"#,
        br#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"AA=="}}"#,
        br#" {"revision":18446744073709551615,"physical":null,"x":[{}]} y"#,
    ];
    let mut seeds = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        let route = u8::try_from(number).unwrap_or(0);
        seeds.push([&[route, 0], *request].concat());
    }
    seeds.push(vec![0, 1, 0, 0, 0, 0, 2, 0x20, 1, 0, 0, 0, 0, 0]);
    seeds.push(vec![4, 1, 0, 0, 0, 0, 6, 0x10, 3, 0x18, 1, 0x28, 5]);
    seeds
}

const PATHS: [&str; 10] = [
    "/v3/maintenance/status",
    "/v3/kv/range",
    "/v3/kv/put",
    "/v3/kv/txn",
    "/v3/watch",
    "/v3/lease/grant",
    "/v3/cluster/member/add",
    "/v3/auth/role/grant",
    "/v3/kv/compaction",
    "/v3/election/campaign",
];
