//! WebSocket frames, with only what the clients need.

use std::io;

use bytes::{Buf, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A WebSocket after its handshake.
pub(crate) struct Frames<IO> {
    io: IO,
    /// Bytes that were read and are not used yet.
    bytes: BytesMut,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Frames<IO> {
    pub(crate) fn new(io: IO) -> Frames<IO> {
        Frames { io, bytes: BytesMut::new() }
    }

    /// Sends a short frame.
    pub(crate) async fn send(&mut self, frame: &Value) -> io::Result<()> {
        self.send_text(&frame.to_string()).await
    }

    /// Sends a short text.
    pub(crate) async fn send_text(&mut self, text: &str) -> io::Result<()> {
        let len = u16::try_from(text.len()).map_err(io::Error::other)?;
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend(len.to_be_bytes());
        // A mask of zeros, which does not change the text.
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.io.write_all(&frame).await
    }

    /// The payload of the next frame.
    pub(crate) async fn next(&mut self) -> io::Result<BytesMut> {
        loop {
            if let Some((header, len)) = self.frame_len()
                && self.bytes.len() >= header + len
            {
                self.bytes.advance(header);
                return Ok(self.bytes.split_to(len));
            }
            self.bytes.reserve(4096);
            self.fill().await?;
        }
    }

    /// Reads the head of the answer to a handshake.
    pub(crate) async fn read_head(&mut self) -> io::Result<BytesMut> {
        const END: &[u8] = b"\r\n\r\n";
        loop {
            if let Some(at) = self.bytes.windows(END.len()).position(|window| window == END) {
                return Ok(self.bytes.split_to(at + END.len()));
            }
            self.fill().await?;
        }
    }

    /// Sends bytes that are not a frame.
    pub(crate) async fn send_head(&mut self, head: &str) -> io::Result<()> {
        self.io.write_all(head.as_bytes()).await
    }

    /// Reads what has arrived, and returns the number of bytes.
    pub(crate) async fn skip(&mut self) -> io::Result<usize> {
        self.bytes.clear();
        self.bytes.reserve(16 * 1024);
        self.fill().await
    }

    pub(crate) fn into_io(self) -> IO {
        self.io
    }

    async fn fill(&mut self) -> io::Result<usize> {
        match self.io.read_buf(&mut self.bytes).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server has closed the connection")),
            n => Ok(n),
        }
    }

    fn frame_len(&self) -> Option<(usize, usize)> {
        match *self.bytes {
            [_, len @ ..126, ..] => Some((2, len.into())),
            [_, 126, high, low, ..] => Some((4, u16::from_be_bytes([high, low]).into())),
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                Some((10, usize::try_from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).ok()?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn frames_of_all_lengths_are_read() {
        let (mut server, io) = duplex(200_000);
        server.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02ab").await.unwrap();
        let (long, longer) = ("l".repeat(300), "m".repeat(70_000));
        server.write_all(&[0x81, 126, 1, 44]).await.unwrap();
        server.write_all(long.as_bytes()).await.unwrap();
        server.write_all(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]).await.unwrap();
        server.write_all(longer.as_bytes()).await.unwrap();
        drop(server);

        let mut frames = Frames::new(io);
        assert!(frames.read_head().await.unwrap().starts_with(b"HTTP/1.1 101 "));
        assert_eq!(frames.next().await.unwrap(), "ab");
        assert_eq!(frames.next().await.unwrap(), long.as_bytes());
        assert_eq!(frames.next().await.unwrap(), longer.as_bytes());
        assert_eq!(frames.next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
