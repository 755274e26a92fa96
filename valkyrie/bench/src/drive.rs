//! Runs every row of the table, round after round, with the peers taking turns.
//! Must not run two measurements at once.

mod rows;

use std::process::{Child as Process, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::child::Child;
use crate::figures::{Figures, Record};
use crate::lab::{Lab, Path, SERVER};
use crate::peer::Peer;
use crate::serve::print;
use crate::{machine, pki};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer rounds and shorter ones.
    #[arg(long)]
    quick: bool,
    /// Rounds of the rows on loopback.
    #[arg(long)]
    rounds: Option<usize>,
    /// Only the rows whose name contains one of these.
    #[arg(long)]
    only: Vec<String>,
}

/// Runs all rounds.
pub(crate) fn drive(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    pki::make(folder.path())?;
    let mut driver = Driver {
        folder,
        only: options.only.clone(),
        lab: None,
        nats: None,
        round: 0,
        begun: Instant::now(),
    };
    let size = if options.quick {
        rows::Size::QUICK
    } else {
        rows::Size::FULL
    };
    let rounds = options.rounds.unwrap_or(size.rounds);
    for round in 0..rounds.max(size.far_rounds) {
        driver.round = round;
        if round < rounds {
            rows::near(&mut driver, &size)?;
        }
        if round < size.far_rounds {
            rows::far(&mut driver, &size)?;
        }
    }
    driver.round = 0;
    rows::many(&mut driver, &size)
}

/// Where the two ends are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On the two processors.
    Apart,
    /// On the same processor.
    Same,
    /// At the two ends of the laboratory's path.
    Far,
}

struct Driver {
    folder: tempfile::TempDir,
    only: Vec<String>,
    lab: Option<Lab>,
    nats: Option<(Process, String)>,
    round: usize,
    begun: Instant,
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some((nats, _)) = &mut self.nats {
            let _ = nats.kill();
            let _ = nats.wait();
        }
    }
}

/// A server and how to reach it.
struct Running {
    server: Child,
    address: String,
    place: Place,
}

impl Driver {
    /// Whether a row is wanted.
    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| row.contains(only.as_str()))
    }

    /// One measurement with a server of its own.
    fn measure(
        &mut self,
        row: &str,
        peer: Peer,
        place: Place,
        load: &[String],
    ) -> Result<Option<Figures>> {
        if !self.wants(row) {
            return Ok(None);
        }
        let machine = machine::busy()?;
        let mut running = self.serve(peer, place)?;
        let before = running.server.usage()?;
        let mut client = self.client(peer, &running, load)?;
        let answer = client.line();
        let answer = answer.with_context(|| format!("{row}, {peer:?}"))?;
        let after = running.server.usage()?;
        let mut figures: Figures = serde_json::from_value(answer["figures"].clone())?;
        rows::used(&mut figures, before, after);
        self.record(row, peer, figures.clone(), machine)?;
        Ok(Some(figures))
    }

    fn record(
        &self,
        row: &str,
        peer: Peer,
        figures: Figures,
        machine: machine::Busy,
    ) -> Result<()> {
        let record = Record {
            row: row.to_owned(),
            peer: name(peer),
            round: self.round,
            figures,
            machine,
        };
        let at = self.begun.elapsed().as_secs();
        eprintln!("{at:4} s  round {}  {row}  {}", self.round, record.peer);
        print(&serde_json::to_value(record)?);
        Ok(())
    }

    fn serve(&mut self, peer: Peer, place: Place) -> Result<Running> {
        let listen = match (peer, place) {
            (Peer::Nats, _) => self.nats()?,
            (_, Place::Far) => format!("{SERVER}:0"),
            _ => "127.0.0.1:0".to_owned(),
        };
        let mut arguments = self.common("serve", peer, 0);
        arguments.push(format!("--listen={listen}"));
        let namespace = match place {
            Place::Far => Some(self.lab()?.server.clone()),
            _ => None,
        };
        let mut server = Child::start(namespace.as_deref(), &arguments)?;
        let address = server.line()?["address"]
            .as_str()
            .context("the server gave no address")?
            .to_owned();
        Ok(Running {
            server,
            address,
            place,
        })
    }

    fn client(&mut self, peer: Peer, running: &Running, load: &[String]) -> Result<Child> {
        let cpu = usize::from(running.place != Place::Same);
        let mut arguments = self.common("load", peer, cpu);
        arguments.push(format!("--server={}", running.address));
        arguments.extend_from_slice(load);
        let namespace = match running.place {
            Place::Far => Some(self.lab()?.client.clone()),
            _ => None,
        };
        Child::start(namespace.as_deref(), &arguments)
    }

    fn common(&self, command: &str, peer: Peer, cpu: usize) -> Vec<String> {
        vec![
            command.to_owned(),
            format!("--peer={}", name(peer)),
            format!("--pki={}", self.folder.path().display()),
            format!("--cpu={cpu}"),
        ]
    }

    fn lab(&mut self) -> Result<&mut Lab> {
        let lab = match self.lab.take() {
            Some(lab) => lab,
            None => Lab::new()?,
        };
        Ok(self.lab.insert(lab))
    }

    fn path(&mut self, path: Path) -> Result<()> {
        self.lab()?.lay(path)
    }

    /// The NATS server's address; it runs beside the answering end, on processor 0.
    fn nats(&mut self) -> Result<String> {
        if let Some((_, address)) = &self.nats {
            return Ok(address.clone());
        }
        // A free port; another program may take it, then the NATS server says so.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let port = address.port().to_string();
        let nats = Command::new("taskset")
            .args(["-c", "0", "nats-server", "-a", "127.0.0.1", "-p", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start nats-server")?;
        self.nats = Some((nats, address.to_string()));
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(address).is_err() {
            anyhow::ensure!(Instant::now() < deadline, "nats-server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(address.to_string())
    }
}

fn name(peer: Peer) -> String {
    clap::ValueEnum::to_possible_value(&peer)
        .expect("no peer is hidden")
        .get_name()
        .to_owned()
}
