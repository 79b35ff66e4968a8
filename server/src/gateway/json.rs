//! JSON to and from the messages of the protocol, by their descriptors.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use tonic::Status;

/// The frame of gRPC that carries the message in `json`. Nothing but space is the empty message; what stands behind
/// the first value is not looked at.
pub(super) fn frame(input: &MessageDescriptor, json: &[u8]) -> Result<Bytes, Status> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = DynamicMessage::deserialize_with_options(input.clone(), &mut reader, &READING);
    let message = match read {
        Ok(message) => message,
        Err(_) if json.iter().all(u8::is_ascii_whitespace) => DynamicMessage::new(input.clone()),
        Err(error) if error.is_eof() => return Err(Status::invalid_argument("unexpected EOF")),
        Err(error) => return Err(Status::invalid_argument(error.to_string())),
    };
    let bytes = message.encoded_len();
    let Ok(length) = u32::try_from(bytes) else {
        return Err(Status::invalid_argument("the message is too long for gRPC"));
    };
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + bytes);
    frame.put_u8(0);
    frame.put_u32(length);
    match message.encode(&mut frame) {
        Ok(()) => Ok(frame.freeze()),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

/// Takes the first message out of `frames`, if it is there in full.
pub(super) fn unframe(frames: &mut Bytes) -> Result<Option<Bytes>, Status> {
    let Some((&[compressed, l0, l1, l2, l3], _)) = frames.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Ok(None);
    };
    if compressed != 0 {
        return Err(Status::internal("a compressed answer, which nobody asked for"));
    }
    let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let end = FRAME_HEAD_BYTES.saturating_add(length);
    if frames.len() < end {
        return Ok(None);
    }
    Ok(Some(frames.split_to(end).slice(FRAME_HEAD_BYTES..)))
}

/// An answer's message between `before` and `after`.
pub(super) fn object(
    output: &MessageDescriptor,
    message: Bytes,
    before: &str,
    after: &str,
) -> Result<Vec<u8>, Status> {
    let mut json = Vec::with_capacity(before.len() + 2 * message.len() + after.len());
    json.extend_from_slice(before.as_bytes());
    let read = DynamicMessage::decode(output.clone(), message);
    let read = read.map_err(|error| Status::internal(format!("cannot read the answer: {error}")))?;
    read.serialize_with_options(&mut serde_json::Serializer::new(&mut json), &WRITING)
        .map_err(|error| Status::internal(format!("cannot write the answer: {error}")))?;
    json.extend_from_slice(after.as_bytes());
    Ok(json)
}

/// Before a message of gRPC: whether it is compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;
const READING: DeserializeOptions = DeserializeOptions::new().deny_unknown_fields(false);
const WRITING: SerializeOptions = SerializeOptions::new()
    .stringify_64_bit_integers(true)
    .use_enum_numbers(false)
    .use_proto_field_name(true)
    .skip_default_fields(true);

#[cfg(test)]
mod tests {
    use proto::etcdserverpb::{
        HashKvResponse, LeaseGrantRequest, MemberAddRequest, RangeRequest, ResponseHeader,
    };
    use tonic::Code;

    use super::*;
    use crate::gateway::routes;

    fn read<M: prost::Message + Default>(path: &str, json: &str) -> Result<M, Status> {
        let mut frames = frame(&routes::find(path).unwrap().input, json.as_bytes())?;
        let message = unframe(&mut frames)?.unwrap();
        assert!(frames.is_empty());
        Ok(M::decode(message).unwrap())
    }

    #[test]
    fn every_spelling_is_read() {
        let expected = RangeRequest {
            key: "foo".into(),
            range_end: "fop".into(),
            limit: 7,
            sort_order: 2,
            sort_target: 1,
            keys_only: true,
            ..RangeRequest::default()
        };
        for json in [
            r#"{"key":"Zm9v","range_end":"Zm9w","limit":7,"sort_order":"DESCEND","sort_target":"VERSION","keys_only":true}"#,
            r#"{"key":"Zm9v","rangeEnd":"Zm9w","limit":"7","sortOrder":2,"sortTarget":1,"keysOnly":true,"nope":[{}]}"#,
            r#" {"key":"Zm9v","range_end":"Zm9w","limit":7.0,"sort_order":2,"sort_target":1,"keys_only":true} x"#,
        ] {
            assert_eq!(
                read::<RangeRequest>("/v3/kv/range", json).unwrap(),
                expected,
                "{json}"
            );
        }
        let grant: LeaseGrantRequest = read("/v3/lease/grant", r#"{"TTL":9,"ID":"-5"}"#).unwrap();
        assert_eq!((grant.ttl, grant.id), (9, -5));
        let add: MemberAddRequest = read("/v3/cluster/member/add", r#"{"peerURLs":["http://a:1"]}"#).unwrap();
        assert_eq!(add.peer_urls, ["http://a:1"]);
        for empty in ["", " \n", "{}"] {
            assert_eq!(
                read::<RangeRequest>("/v3/kv/range", empty).unwrap(),
                RangeRequest::default()
            );
        }
        // Base64 for URLs, padding left out, an enum's name that is unknown.
        let key: RangeRequest = read("/v3/kv/range", r#"{"key":"-_8","sort_order":"NOPE"}"#).unwrap();
        assert_eq!((&key.key[..], key.sort_order), (&[0xfb, 0xff][..], 0));
    }

    #[test]
    fn what_cannot_be_read_is_invalid() {
        for json in [
            r#"{"key":"Z"#,
            "x",
            "null",
            "[]",
            r#"{"key":"%%%"}"#,
            r#"{"key":5}"#,
            r#"{"limit":1.5}"#,
            r#"{"limit":"x"}"#,
            r#"{"limit":99999999999999999999}"#,
            "{\"key\":\"\u{1}\"}",
        ] {
            let status = read::<RangeRequest>("/v3/kv/range", json).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{json}");
        }
        let deep = format!(
            "{}1{}",
            r#"{"success":[{"request_txn":"#.repeat(1000),
            "}]}".repeat(1000)
        );
        let status = read::<RangeRequest>("/v3/kv/txn", &deep).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }

    #[test]
    fn answers_are_written_as_etcds() {
        let answer = HashKvResponse {
            header: Some(ResponseHeader {
                cluster_id: u64::MAX,
                revision: 0,
                ..ResponseHeader::default()
            }),
            hash: 4_000_000_000,
            compact_revision: -1,
            hash_revision: 0,
        };
        let output = &routes::find("/v3/maintenance/hashkv").unwrap().output;
        let json = object(output, answer.encode_to_vec().into(), "{\"result\":", "}\n").unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            "{\"result\":{\"header\":{\"cluster_id\":\"18446744073709551615\"},\"hash\":4000000000,\
             \"compact_revision\":\"-1\"}}\n"
        );
        assert!(object(output, Bytes::from_static(b"\xff"), "", "").is_err());
    }

    #[test]
    fn frames_are_taken_one_by_one() {
        let mut frames = Bytes::from_static(&[0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(unframe(&mut frames).unwrap().unwrap(), &[7][..]);
        assert_eq!(unframe(&mut frames).unwrap().unwrap(), &[][..]);
        assert_eq!(unframe(&mut frames).unwrap(), None);
        assert!(unframe(&mut Bytes::from_static(&[1, 0, 0, 0, 0])).is_err());
    }
}
