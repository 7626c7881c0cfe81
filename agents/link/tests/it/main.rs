//! Both adapters of the bus, the one inside a process and RabbitMQ; and the protocol against agents in processes.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod amqp;
mod broker;
mod local;
mod protocol;
