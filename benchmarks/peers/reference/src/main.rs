//! The reference, measured: the crate `distkit` on the server that our counters use, too.
//!
//! `distkit-reference VERSION URL PREFIX`, with `first` or `newest` for a version, says in a line
//! of JSON that it is ready. Its counters share what they count with all that have the prefix.
//! It answers each line of words on its standard input with one of JSON, and ends when the input
//! does. With a question on the command line, behind the prefix, it answers that one and ends:
//!
//! * `strict TASKS KEYS SECONDS`: so many tasks call `inc` of one strict counter over so many
//!   keys, each as fast as it can: calls in a second, and seconds a call.
//! * `lax SECONDS`: the time of one `inc` of a lax counter that knows the key.
//! * `fill KEYS`: an instance counts so many keys, in the server.
//! * `populate INSTANCES`: so many more instances count one key, over one connection.
//! * `known KEYS`: the bytes in this process that a lax counter allocates for so many keys.
//! * `counters COUNT`: the bytes that so many strict counters allocate, a connection for each.

mod crates;
mod weigh;

use std::env;
use std::io::{BufRead, Write, stdin, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::ConnectionManager;
use tokio::task::JoinSet;

use crates::{Counter, Outcome, first, newest};

#[global_allocator]
static ALLOCATOR: weigh::Scales = weigh::Scales;

/// Calls between two looks at the clock, where a call takes less than a look.
const BLOCK: u32 = 1000;
/// So many such blocks at least: in one or two of them the counter looks at the store.
const BLOCKS: usize = 10;
/// Calls at once, where many keys only have to be counted.
const AT_ONCE: usize = 100;
/// Long enough for a lax counter to have sent what it has counted.
const FLUSHED: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Outcome<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [version, url, prefix, question @ ..] = words.as_slice() else {
        return Err("usage: distkit-reference first|newest URL PREFIX [QUESTION]".into());
    };
    match version.as_str() {
        "first" => {
            use first::{LaxInstanceAwareCounter, StrictInstanceAwareCounter};
            serve::<StrictInstanceAwareCounter, LaxInstanceAwareCounter>(url, prefix, question)
                .await
        }
        "newest" => {
            use newest::{LaxInstanceAwareCounter, StrictInstanceAwareCounter};
            serve::<StrictInstanceAwareCounter, LaxInstanceAwareCounter>(url, prefix, question)
                .await
        }
        _ => Err(format!("there is no version {version}").into()),
    }
}

/// Answer the question, or else all those of the standard input.
async fn serve<S: Counter, L: Counter>(
    url: &str,
    prefix: &str,
    question: &[String],
) -> Outcome<()> {
    let program = Program::<S, L>::open(url, prefix).await?;
    if !question.is_empty() {
        let words: Vec<&str> = question.iter().map(String::as_str).collect();
        return say(&program.answer(&words).await?);
    }
    say(&[("ready", 1.0)])?;
    // Nothing else is to be done meanwhile, so that it may block.
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        say(&program.answer(&words).await?)?;
    }
    Ok(())
}

type Answer = Vec<(&'static str, f64)>;

fn say(answer: &[(&str, f64)]) -> Outcome<()> {
    let figures: Vec<String> = answer
        .iter()
        .map(|(name, value)| format!("\"{name}\": {value:e}"))
        .collect();
    let mut out = stdout().lock();
    writeln!(out, "{{{}}}", figures.join(", "))?;
    Ok(out.flush()?)
}

struct Program<S, L> {
    url: String,
    prefix: String,
    connection: ConnectionManager,
    strict: Arc<S>,
    lax: Arc<L>,
}

impl<S: Counter, L: Counter> Program<S, L> {
    async fn open(url: &str, prefix: &str) -> Outcome<Self> {
        let connection = connect(url).await?;
        Ok(Self {
            url: url.to_string(),
            strict: S::open(&format!("{prefix}_strict"), connection.clone())?,
            lax: L::open(&format!("{prefix}_lax"), connect(url).await?)?,
            prefix: prefix.to_string(),
            connection,
        })
    }

    async fn answer(&self, words: &[&str]) -> Outcome<Answer> {
        match words {
            ["strict", tasks, keys, seconds] => {
                let seconds = Duration::from_secs_f64(seconds.parse()?);
                drive(&self.strict, tasks.parse()?, keys.parse()?, seconds).await
            }
            ["lax", seconds] => {
                let seconds = Duration::from_secs_f64(seconds.parse()?);
                time_one(self.lax.as_ref(), seconds).await
            }
            ["fill", keys] => {
                let counter = S::open(&self.other("fill"), self.connection.clone())?;
                count_all(&counter, keys.parse()?).await?;
                Ok(vec![("counted", keys.parse()?)])
            }
            ["populate", instances] => self.populate(instances.parse()?).await,
            ["known", keys] => self.known(keys.parse()?).await,
            ["counters", count] => self.counters(count.parse()?).await,
            _ => Err(format!("nobody knows what {words:?} is").into()),
        }
    }

    fn other(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    async fn populate(&self, instances: usize) -> Outcome<Answer> {
        let key = S::key("key000000")?;
        for _ in 0..instances {
            let counter = S::open(&self.other("populate"), self.connection.clone())?;
            counter.add_one(&key).await?;
        }
        Ok(vec![("counted", instances as f64)])
    }

    async fn known(&self, keys: usize) -> Outcome<Answer> {
        let counter = L::open(&self.other("known"), self.connection.clone())?;
        count_all(&counter, 1).await?;
        tokio::time::sleep(FLUSHED).await;
        weigh::start();
        count_all(&counter, keys).await?;
        tokio::time::sleep(FLUSHED).await;
        Ok(vec![("bytes", weigh::stop() as f64)])
    }

    async fn counters(&self, count: usize) -> Outcome<Answer> {
        let key = S::key("key000000")?;
        let mut counters = Vec::with_capacity(count);
        weigh::start();
        for _ in 0..count {
            let counter = S::open(&self.other("counters"), connect(&self.url).await?)?;
            counter.add_one(&key).await?;
            counters.push(counter);
        }
        Ok(vec![("bytes", weigh::stop() as f64)])
    }
}

async fn connect(url: &str) -> Outcome<ConnectionManager> {
    Ok(redis::Client::open(url)?.get_connection_manager().await?)
}

/// Make the names that the other side of the comparison uses, too.
fn key_names<C: Counter>(count: usize) -> Outcome<Arc<[C::Key]>> {
    (0..count)
        .map(|number| C::key(&format!("key{number:06}")))
        .collect()
}

/// Let tasks call `inc`, each as fast as it can. Each goes over all keys, and begins at another.
async fn drive<C: Counter>(
    counter: &Arc<C>,
    tasks: usize,
    keys: usize,
    seconds: Duration,
) -> Outcome<Answer> {
    let keys = key_names::<C>(keys)?;
    let start = Instant::now();
    let end = start + seconds;
    let mut running = JoinSet::new();
    for number in 0..tasks {
        let (counter, keys) = (Arc::clone(counter), Arc::clone(&keys));
        running.spawn(async move {
            let mut times = Vec::new();
            let mut before = Instant::now();
            for key in keys.iter().cycle().skip(number % keys.len()) {
                counter.add_one(key).await?;
                let now = Instant::now();
                times.push((now - before).as_secs_f64());
                before = now;
                if now >= end {
                    break;
                }
            }
            Outcome::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = running.join_next().await {
        times.append(&mut done??);
    }
    let elapsed = start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    Ok(vec![
        ("calls", times.len() as f64),
        ("rate", times.len() as f64 / elapsed),
        ("p50", percentile(&times, 0.5)),
        ("p99", percentile(&times, 0.99)),
    ])
}

/// Return the value that such a share of the others does not exceed.
fn percentile(ordered: &[f64], share: f64) -> f64 {
    let rank = (share * ordered.len() as f64).ceil() as usize;
    ordered[rank.saturating_sub(1)]
}

/// Return what one call takes in half of the blocks of calls: those in which the counter looks at
/// the store take longer, and are left out.
async fn time_one<C: Counter>(counter: &C, seconds: Duration) -> Outcome<Answer> {
    let key = C::key("connections")?;
    counter.add_one(&key).await?;
    let end = Instant::now() + seconds;
    let mut times = Vec::new();
    while times.len() < BLOCKS || Instant::now() < end {
        let start = Instant::now();
        for _ in 0..BLOCK {
            counter.add_one(&key).await?;
        }
        times.push(start.elapsed().as_secs_f64() / f64::from(BLOCK));
    }
    times.sort_by(f64::total_cmp);
    Ok(vec![("seconds", percentile(&times, 0.5))])
}

/// Count each key once.
async fn count_all<C: Counter>(counter: &Arc<C>, keys: usize) -> Outcome<()> {
    let keys = key_names::<C>(keys)?;
    for first in (0..keys.len()).step_by(AT_ONCE) {
        let mut running = JoinSet::new();
        for number in first..keys.len().min(first + AT_ONCE) {
            let (counter, keys) = (Arc::clone(counter), Arc::clone(&keys));
            running.spawn(async move { counter.add_one(&keys[number]).await });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
    }
    Ok(())
}
