//! A little HTTP server that fails when it is told to; what it serves otherwise is `fake`'s business, or a real MLflow's
//! behind it.

use crate::fake::Fake;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// This status instead of doing it.
    Status(u16),
    /// The connection ends before it is done,
    CutBefore,
    /// or after, and nobody hears that it was done.
    CutAfter,
    /// The answer takes this long.
    Slow(Duration),
    /// An answer without end.
    Endless,
    /// To another place.
    Redirect,
}

/// Who answers what does not fail.
pub enum Backend {
    Fake(Box<Fake>),
    Real(SocketAddr),
}

/// A request.
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// As it came.
    head: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

pub struct Stub {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    backend: Mutex<Backend>,
    /// Which request fails, counted from 0; later ones do not.
    fault: Mutex<Option<(usize, Fault)>>,
    /// Method and target of every request, and its credentials.
    seen: Mutex<Vec<(String, Option<String>)>>,
}

impl Stub {
    pub fn start(backend: Backend) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared { backend: Mutex::new(backend), fault: Mutex::new(None), seen: Mutex::new(Vec::new()) };
        let shared = Arc::new(shared);
        let server = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = server.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, shared }
    }

    pub fn fake() -> Self {
        Self::start(Backend::Fake(Box::default()))
    }

    /// A fake behind TLS.
    pub fn tls(config: Arc<rustls::ServerConfig>) -> Self {
        let plain = Self::fake();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let shared = plain.shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, connection) = (shared.clone(), rustls::ServerConnection::new(config.clone()).unwrap());
                std::thread::spawn(move || serve(rustls::StreamOwned::new(connection, stream), &shared));
            }
        });
        Self { url, ..plain }
    }

    /// The request of this number, counted from now on, fails.
    pub fn fail(&self, number: usize, fault: Fault) {
        self.shared.seen.lock().unwrap().clear();
        *self.shared.fault.lock().unwrap() = Some((number, fault));
    }

    /// Requests since the last call, as `POST runs/create`.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap()).into_iter().map(|(request, _)| request).collect()
    }

    /// The credentials of every request since the last call.
    pub fn credentials(&self) -> Vec<Option<String>> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap()).into_iter().map(|(_, credentials)| credentials).collect()
    }

    /// Everything that the fake holds.
    pub fn state(&self) -> serde_json::Value {
        match &*self.shared.backend.lock().unwrap() {
            Backend::Fake(fake) => fake.state(),
            Backend::Real(_) => panic!("ask the real server itself"),
        }
    }
}

/// One request a connection.
fn serve(mut stream: impl Read + Write, shared: &Shared) {
    let Some(request) = read(&mut stream) else { return };
    let number = {
        let mut seen = shared.seen.lock().unwrap();
        let path = request.target.split('?').next().unwrap();
        let short = path.trim_start_matches("/api/2.0/mlflow").trim_start_matches('/');
        seen.push((format!("{} {short}", request.method), request.header("authorization").map(str::to_owned)));
        seen.len() - 1
    };
    let fault = shared.fault.lock().unwrap().filter(|(at, _)| *at == number).map(|(_, fault)| fault);
    let words = |status: &str, more: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{more}\r\n{body}", body.len())
            .into_bytes()
    };
    let answer = match fault {
        Some(Fault::CutBefore) => return,
        Some(Fault::Status(status)) => {
            words(&format!("{status} no"), "", r#"{"error_code":"INVALID_STATE","message":"the stub says no"}"#)
        }
        Some(Fault::Redirect) => words("302 Found", "Location: http://elsewhere.example/\r\n", ""),
        Some(Fault::Endless) => {
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            while stream.write_all(&[b' '; 1 << 16]).is_ok() {}
            return;
        }
        Some(Fault::Slow(_) | Fault::CutAfter) | None => match &mut *shared.backend.lock().unwrap() {
            Backend::Fake(fake) => {
                let (status, body) = fake.answer(&request);
                words(&status.to_string(), "", &body.to_string())
            }
            Backend::Real(address) => forward(*address, &request),
        },
    };
    match fault {
        Some(Fault::CutAfter) => return,
        Some(Fault::Slow(time)) => std::thread::sleep(time),
        _ => (),
    }
    _ = stream.write_all(&answer);
    _ = stream.flush();
}

/// `None` if the client left.
fn read(stream: &mut impl Read) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    head.extend(line.bytes());
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
        head.extend(line.bytes());
    }
    let mut request = Request { method, target, headers, body: Vec::new(), head };
    assert!(request.header("transfer-encoding").is_none(), "the length of every body is known");
    let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    request.body = vec![0; length];
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// To the real server, word for word.
fn forward(address: SocketAddr, request: &Request) -> Vec<u8> {
    let mut upstream = TcpStream::connect(address).unwrap();
    upstream.write_all(&request.head).unwrap();
    upstream.write_all(b"Connection: close\r\n\r\n").unwrap();
    upstream.write_all(&request.body).unwrap();
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).unwrap();
    answer
}
