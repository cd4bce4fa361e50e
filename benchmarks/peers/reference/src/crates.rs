//! Both versions of the crate, behind one trait.

use std::future::Future;
use std::sync::Arc;

use redis::aio::ConnectionManager;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// An instance-aware counter of some version.
pub trait Counter: Sized + Send + Sync + 'static {
    type Key: Send + Sync + 'static;

    /// Make a key, once for all calls, as a program would.
    fn key(name: &str) -> Outcome<Self::Key>;

    /// Make a counter, with all settings as they come.
    fn open(prefix: &str, connection: ConnectionManager) -> Outcome<Arc<Self>>;

    /// Increment a key by one.
    fn add_one(&self, key: &Self::Key) -> impl Future<Output = Outcome<()>> + Send;
}

macro_rules! counter {
    ($counter:ident, $options:ident) => {
        impl Counter for $counter {
            type Key = Key;

            fn key(name: &str) -> Outcome<Key> {
                Ok(Key::try_from(name.to_string())?)
            }

            fn open(prefix: &str, connection: ConnectionManager) -> Outcome<Arc<Self>> {
                Ok(Self::new($options::new(Self::key(prefix)?, connection)))
            }

            async fn add_one(&self, key: &Key) -> Outcome<()> {
                self.inc(key, 1).await?;
                Ok(())
            }
        }
    };
}

macro_rules! version {
    ($version:ident, $key:ident) => {
        pub mod $version {
            use super::*;
            use ::$version::icounter::{
                InstanceAwareCounterTrait, LaxInstanceAwareCounterOptions,
                StrictInstanceAwareCounterOptions,
            };
            pub use ::$version::icounter::{LaxInstanceAwareCounter, StrictInstanceAwareCounter};
            use ::$version::$key as Key;

            counter!(
                StrictInstanceAwareCounter,
                StrictInstanceAwareCounterOptions
            );
            counter!(LaxInstanceAwareCounter, LaxInstanceAwareCounterOptions);
        }
    };
}

version!(first, RedisKey);
version!(newest, DistkitRedisKey);
