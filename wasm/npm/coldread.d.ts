export type LongText = "truncate" | "window" | "error";

/** What the model says of one post. */
export interface Sentiment {
  /** The label with the highest score. */
  label: string;
  /** That score, 0 to 1. */
  score: number;
  /** Every label's score, in the model's order. */
  scores: Record<string, number>;
  /** Whether only the beginning of the post was read. */
  truncated: boolean;
}

/** A failure with a stable code. */
export declare class ColdreadError extends Error {
  readonly code:
    | "empty_text"
    | "text_too_long"
    | "invalid_type"
    | "invalid_option"
    | "invalid_model"
    | "not_found"
    | "unauthorized"
    | "unsupported_engine"
    | "out_of_memory"
    | "engine_failed"
    | "disposed";
  /** The post's place among the posts of the call. */
  readonly index?: number;
}

export interface Classifier {
  readonly name: string;
  readonly labels: string[];
  readonly instructionSet: string;
  readonly memoryBytes: number;
  classify(post: string, options?: { longText?: LongText }): Sentiment;
  classify(posts: string[], options?: { longText?: LongText }): (Sentiment | ColdreadError)[];
  dispose(): void;
}

export declare function load(
  model?: string | URL | Response | ArrayBuffer | ArrayBufferView,
  options?: { headers?: Record<string, string>; module?: WebAssembly.Module },
): Promise<Classifier>;

export declare function supports(): { simd: boolean; relaxed: boolean };
