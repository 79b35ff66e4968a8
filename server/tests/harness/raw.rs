//! Any method by its path, with a message already encoded.

use std::pin::Pin;

use bytes::Bytes;
use tokio_stream::{Stream, StreamExt as _};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

use super::PATIENCE;
use super::as_bytes::AsBytes;
use super::client::Carrier;

/// Sends one message to a method of any kind and returns the first that comes back; on the wire a unary call is a
/// stream of one message. The requests of the call end with that message unless it `stays_open`.
pub(crate) async fn raw_call(
    carrier: Carrier,
    path: &str,
    message: Bytes,
    stays_open: bool,
) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(carrier).max_decoding_message_size(usize::MAX);
    let first = tokio_stream::once(message);
    let requests: Pin<Box<dyn Stream<Item = Bytes> + Send>> = match stays_open {
        true => Box::pin(first.chain(tokio_stream::pending())),
        false => Box::pin(first),
    };
    let call = async {
        grpc.ready().await.expect("the server is connected");
        let path = PathAndQuery::try_from(path).expect("a path");
        let answers = grpc.streaming(Request::new(requests), path, AsBytes).await?;
        answers.into_inner().message().await
    };
    let answer = tokio::time::timeout(PATIENCE, call).await;
    let answer = answer.unwrap_or_else(|_| panic!("{path}: no answer within {PATIENCE:?}"));
    Ok(answer?.unwrap_or_default())
}
