/** What is shown where the page itself is at fault: the work is kept, and a reload brings it back. */

import { Component, type ReactNode } from "react";

import { STRINGS } from "../strings";

interface Props {
  readonly children: ReactNode;
}

export class Fault extends Component<Props, { readonly message: string | null }> {
  override state = { message: null as string | null };

  static getDerivedStateFromError(error: unknown): { readonly message: string } {
    return { message: String(error) };
  }

  override render(): ReactNode {
    if (this.state.message === null) return this.props.children;
    return (
      <div className="waiting" role="alert">
        <p>{STRINGS.fault}</p>
        <pre>{this.state.message}</pre>
        <button type="button" onClick={() => location.reload()}>
          {STRINGS.reload}
        </button>
      </div>
    );
  }
}
