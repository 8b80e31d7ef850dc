/** Something that whoever started the service can mend: told in plain words, without a stack. */
export class StartFailure extends Error {}
