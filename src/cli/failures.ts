/** A mistake in how a command was called. The command ends with 2, after the message and the command's help. */
export class UsageError extends Error {}

/** A command can't do what it was asked for. It ends with 1, after the message. */
export class CommandFailure extends Error {}
