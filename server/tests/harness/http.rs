//! HTTP/1.1 with nothing but the standard library: one request on a connection of its own, and an answer that may
//! be read while it is made.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// An answer whose head was read. Dropping it closes the connection.
pub(crate) struct Exchange {
    pub(crate) status: u16,
    /// By names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    stream: BufReader<TcpStream>,
    /// What of the present chunk is not read; without chunks, of the body.
    left: usize,
    is_chunked: bool,
    line: Vec<u8>,
}

impl Exchange {
    /// Sends a request and waits for the head of its answer.
    pub(crate) fn send(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Exchange {
        let mut stream = TcpStream::connect(address).expect("the port is served");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        let mut request = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request += "Host: localhost\r\n";
        }
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!(
            "Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        // A server that has heard enough may close before it took all.
        let _ = stream.write_all(request.as_bytes());
        let mut stream = BufReader::new(stream);
        let status = head_line(&mut stream)
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status line");
        let mut headers = BTreeMap::new();
        loop {
            let line = head_line(&mut stream);
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers
            .get("content-length")
            .and_then(|length| length.parse().ok());
        Exchange {
            status,
            is_chunked: headers
                .get("transfer-encoding")
                .is_some_and(|coding| coding == "chunked"),
            left: if method == "HEAD" { 0 } else { length.unwrap_or(0) },
            headers,
            stream,
            line: Vec::new(),
        }
    }

    pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> Exchange {
        Exchange::send(address, "POST", path, &[], body)
    }

    pub(crate) fn get(address: SocketAddr, path: &str) -> Exchange {
        Exchange::send(address, "GET", path, &[], "")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The next line as soon as it is there; `None` at the end of the body.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.line.iter().position(|&byte| byte == b'\n') {
                let rest = self.line.split_off(end + 1);
                let line = std::mem::replace(&mut self.line, rest);
                return Some(String::from_utf8(line).expect("text"));
            }
            let Some(data) = self.data() else {
                let rest = String::from_utf8(std::mem::take(&mut self.line)).expect("text");
                return (!rest.is_empty()).then_some(rest);
            };
            self.line.extend(data);
        }
    }

    /// The next line as JSON.
    pub(crate) fn json_line(&mut self) -> Value {
        let line = self.line().expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// What of the body was not yet read.
    pub(crate) fn body(mut self) -> String {
        std::iter::from_fn(|| self.line()).collect()
    }

    /// Some of the body, as it arrives.
    fn data(&mut self) -> Option<Vec<u8>> {
        if self.left == 0 && self.is_chunked {
            let size = head_line(&mut self.stream);
            self.left = usize::from_str_radix(&size, 16).expect("the size of a chunk");
        }
        if self.left == 0 {
            self.is_chunked = false;
            return None;
        }
        let mut data = vec![0; self.left.min(64 << 10)];
        let read = self.stream.read(&mut data).expect("the answer goes on");
        assert!(read > 0, "the answer is cut off");
        data.truncate(read);
        self.left -= read;
        if self.left == 0 && self.is_chunked {
            assert_eq!(head_line(&mut self.stream), "");
        }
        Some(data)
    }
}

/// A line without its end.
fn head_line(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).expect("an answer over HTTP/1.1");
    line.trim_end().to_owned()
}
