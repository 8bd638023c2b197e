//! The flags of the store that keeps messages.

use std::error::Error;

use clap::{Args, ValueEnum};
use tower_chat_rooms::ChatRoomsBuilder;

#[derive(Args)]
#[command(next_help_heading = crate::options::STORE)]
pub(crate) struct Store {
    /// Database that keeps all messages: `sqlite:chat.db` or `postgres://user:password@host/database`
    #[arg(long = "store", env = "CHAT_STORE", hide_env_values = true, value_name = "URL")]
    pub(crate) url: Option<String>,

    /// Whether messages are stored before the members of a room get them, or afterwards
    #[arg(long = "store-messages", env = "CHAT_STORE_MESSAGES", default_value = "first", requires = "url")]
    pub(crate) when: When,
}

/// [`Keep`](tower_chat_rooms::Keep) as a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum When {
    /// Before
    First,
    /// Afterwards; a crash may lose the latest messages
    Behind,
}

#[cfg(feature = "store")]
impl Store {
    /// Connects to the database, if there is one, and creates its tables.
    pub(crate) async fn apply(
        &self,
        builder: ChatRoomsBuilder,
    ) -> Result<ChatRoomsBuilder, Box<dyn Error + Send + Sync>> {
        let Some(url) = &self.url else { return Ok(builder) };
        crate::database::apply(url, self.when, builder).await
    }

    /// Returns an error unless the database can be read, if there is one.
    pub(crate) async fn check(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Some(url) = &self.url else { return Ok(()) };
        crate::database::check(url).await
    }
}

#[cfg(not(feature = "store"))]
impl Store {
    /// Returns an error if there is to be a database.
    pub(crate) async fn apply(
        &self,
        builder: ChatRoomsBuilder,
    ) -> Result<ChatRoomsBuilder, Box<dyn Error + Send + Sync>> {
        self.check().await?;
        Ok(builder)
    }

    /// Returns an error if there is to be a database.
    pub(crate) async fn check(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        if self.url.is_none() {
            return Ok(());
        }
        Err("this build has no store; build it with `--features store` for the flags --store*".into())
    }
}
