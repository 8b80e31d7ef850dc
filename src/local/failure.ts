/** A failure that the user can fix. It is reported by its message, without a stack. */
export class StartFailure extends Error {}
