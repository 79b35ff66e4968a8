//! Messages to and from frames.
//!
//! Not `tonic-prost`'s codec, because that one starts each buffer at 8 KiB and grows it by doubling: here small
//! messages get small buffers and large answers their exact size at once.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::stats::Kept;

/// Decodes requests `Q` and encodes answers `A`.
pub(super) struct Wire<Q, A>(PhantomData<fn(Q) -> A>);

impl<Q, A> Wire<Q, A> {
    pub(super) fn new() -> Self {
        Wire(PhantomData)
    }
}

impl<Q, A> Codec for Wire<Q, A>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
{
    type Encode = A;
    type Decode = Q;
    type Encoder = Answers<A>;
    type Decoder = Requests<Q>;

    fn encoder(&mut self) -> Answers<A> {
        Answers(PhantomData)
    }

    fn decoder(&mut self) -> Requests<Q> {
        Requests(PhantomData)
    }
}

/// As [`Wire`]; what the log may tell of a request comes with it.
pub(super) struct KeepingWire<Q, A>(PhantomData<fn(Q) -> A>);

impl<Q, A> KeepingWire<Q, A> {
    pub(super) fn new() -> Self {
        KeepingWire(PhantomData)
    }
}

impl<Q, A> Codec for KeepingWire<Q, A>
where
    Q: Message + Default + 'static,
    A: Message + 'static,
{
    type Encode = A;
    type Decode = Kept<Q>;
    type Encoder = Answers<A>;
    type Decoder = KeptRequests<Q>;

    fn encoder(&mut self) -> Answers<A> {
        Answers(PhantomData)
    }

    fn decoder(&mut self) -> KeptRequests<Q> {
        KeptRequests(PhantomData)
    }
}

/// Encodes answers.
pub(super) struct Answers<A>(PhantomData<fn(A)>);

impl<A: Message> Encoder for Answers<A> {
    type Item = A;
    type Error = Status;

    fn encode(&mut self, answer: A, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(answer.encoded_len());
        answer
            .encode(buffer)
            .map_err(|error| Status::internal(format!("cannot encode the answer: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

/// Decodes requests.
pub(super) struct Requests<Q>(PhantomData<fn() -> Q>);

impl<Q: Message + Default> Decoder for Requests<Q> {
    type Item = Q;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Q>, Status> {
        Q::decode(buffer).map(Some).map_err(|error| unreadable(&error))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

/// Decodes requests and keeps what the log may tell of them.
pub(super) struct KeptRequests<Q>(PhantomData<fn() -> Q>);

impl<Q: Message + Default + 'static> Decoder for KeptRequests<Q> {
    type Item = Kept<Q>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Kept<Q>>, Status> {
        // No copy: the rest of the buffer is the message.
        let raw = buffer.copy_to_bytes(buffer.remaining());
        Kept::decode(raw).map(Some).map_err(|error| unreadable(&error))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

fn unreadable(error: &prost::DecodeError) -> Status {
    Status::internal(format!("grpc: error unmarshalling request: {error}"))
}

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, FLUSH_BYTES)
}

/// First size of a buffer: most answers fit.
const BUFFER_BYTES: usize = 256;
/// A stream with this much ready is sent on before more is gathered.
const FLUSH_BYTES: usize = 32 << 10;
