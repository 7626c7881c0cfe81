//! Both adapters of the bus: the one inside a process, and RabbitMQ.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod amqp;
mod broker;
mod local;
