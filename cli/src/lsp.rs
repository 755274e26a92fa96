//! `rustci lsp`: a language server for pipelines in an editor, over standard input and output.
//! Must not know rules of pipelines: `lint`, the schemas and the planner have them.
//!
//! <https://microsoft.github.io/language-server-protocol/specifications/lsp/3.17/specification/>

mod completion;
mod cursor;
mod definition;
mod diagnostics;
mod document;
mod expression;
mod hover;
mod meaning;
mod outline;
mod position;
mod reuse;
mod schema;
mod scope;
mod uri;

use std::collections::HashMap;

use lsp_server::{Connection, ErrorCode, Message, Notification, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use self::position::Position;
use self::reuse::Around;
use crate::failure::Failure;
use crate::verdict::Verdict;

/// Serves one editor until it says exit or closes the connection.
pub fn serve() -> Result<Verdict, Failure> {
    let (connection, threads) = Connection::stdio();
    let served = Server::serve(&connection);
    // The writing thread ends when nobody can send any more.
    drop(connection);
    served?;
    threads
        .join()
        .map_err(|error| Failure::infrastructure(format!("the editor is gone: {error}")))?;
    Ok(Verdict::Succeeded)
}

/// The open documents of one editor.
struct Server<'connection> {
    connection: &'connection Connection,
    /// Their texts by their URIs.
    documents: HashMap<String, String>,
}

/// A place in a document, as most requests name it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AtPosition {
    text_document: TextDocument,
    position: Position,
}

/// A document, or what became of it.
#[derive(Deserialize)]
struct TextDocument {
    uri: String,
    version: Option<i64>,
    text: Option<String>,
}

/// Parameters of the notifications about documents.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentChange {
    text_document: TextDocument,
    #[serde(default)]
    content_changes: Vec<Change>,
}

/// A change of a whole document, since the server asks for full texts.
#[derive(Deserialize)]
struct Change {
    text: String,
}

impl Server<'_> {
    fn serve(connection: &Connection) -> Result<(), Failure> {
        let broken = |error: lsp_server::ProtocolError| {
            Failure::usage(format!("the editor does not speak the protocol: {error}"))
        };
        let (id, _) = connection.initialize_start().map_err(broken)?;
        connection
            .initialize_finish(id, capabilities())
            .map_err(broken)?;
        let mut server = Server {
            connection,
            documents: HashMap::new(),
        };
        for message in &connection.receiver {
            match message {
                Message::Request(request) => {
                    if connection.handle_shutdown(&request).map_err(broken)? {
                        return Ok(());
                    }
                    server.send(server.answer(request));
                }
                Message::Notification(notification) => server.take(notification),
                Message::Response(_) => {}
            }
        }
        Ok(())
    }

    /// A closed connection ends the loop at its next message, so trouble needs no word here.
    fn send(&self, message: impl Into<Message>) {
        let _ = self.connection.sender.send(message.into());
    }

    fn answer(&self, request: Request) -> Response {
        type Asked = fn(&str, Position, &Around) -> Option<Value>;
        let asked: Asked = match request.method.as_str() {
            "textDocument/completion" => completion::complete,
            "textDocument/hover" => hover::hover,
            "textDocument/definition" => definition::definition,
            other => {
                let message = format!("there is no method {other}");
                return Response::new_err(request.id, ErrorCode::MethodNotFound as i32, message);
            }
        };
        let at: AtPosition = match serde_json::from_value(request.params) {
            Ok(at) => at,
            Err(error) => {
                let code = ErrorCode::InvalidParams as i32;
                return Response::new_err(request.id, code, error.to_string());
            }
        };
        let uri = &at.text_document.uri;
        let document = self.documents.get(uri);
        let mut answer = document.and_then(|document| {
            let around = Around::of(uri, document, &self.documents);
            asked(document, at.position, &around)
        });
        if request.method == "textDocument/definition"
            && let Some(place) = &mut answer
            && place["uri"].is_null()
        {
            place["uri"] = json!(uri);
        }
        Response::new_ok(request.id, answer.unwrap_or_default())
    }

    fn take(&mut self, notification: Notification) {
        let method = notification.method.as_str();
        if !matches!(
            method,
            "textDocument/didOpen" | "textDocument/didChange" | "textDocument/didClose"
        ) {
            return;
        }
        let DocumentChange {
            text_document: TextDocument { uri, version, text },
            mut content_changes,
        } = match serde_json::from_value(notification.params) {
            Ok(change) => change,
            Err(error) => {
                tracing::warn!(%error, "a notification cannot be read");
                return;
            }
        };
        if method == "textDocument/didClose" {
            self.documents.remove(&uri);
            return self.publish(&uri, None, Vec::new());
        }
        let newest = content_changes.pop().map(|change| change.text);
        if let Some(text) = text.or(newest) {
            let around = Around::of(&uri, &text, &self.documents);
            let found = diagnostics::diagnostics(&text, &around.others);
            self.documents.insert(uri.clone(), text);
            self.publish(&uri, version, found);
        }
    }

    fn publish(&self, uri: &str, version: Option<i64>, diagnostics: Vec<Value>) {
        let mut params = json!({"uri": uri, "diagnostics": diagnostics});
        if let Some(version) = version {
            params["version"] = json!(version);
        }
        let method = "textDocument/publishDiagnostics".to_owned();
        self.send(Notification { method, params });
    }
}

fn capabilities() -> Value {
    /// Documents are sent whole with each change.
    const FULL: u8 = 1;
    json!({
        "capabilities": {
            "textDocumentSync": {"openClose": true, "change": FULL},
            "completionProvider": {"triggerCharacters": [".", " ", "[", ",", "{"]},
            "hoverProvider": true,
            "definitionProvider": true,
        },
        "serverInfo": {"name": "rustci", "version": env!("CARGO_PKG_VERSION")},
    })
}

#[cfg(test)]
mod tests;
