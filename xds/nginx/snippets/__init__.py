"""Snippets: nginx configuration in annotations, of which a white list of directives becomes routes, filters and headers of Envoy.

    syntax        text → directives, by nginx's own rules; what nginx could not read is refused
    directives    the white list: where each directive may stand, and what becomes of it (docs/snippets.md)
    conditions    the conditions of `if` and the patterns of `rewrite` → matchers of a route
    program       directives → the ways that a request can go through them, each with its conditions, headers and its end
    headers       header directives → Envoy's mutations
    access        allow, deny → Envoy's RBAC

Nothing of a snippet is executed, no file is read, `include` is not followed, and no text reaches Envoy unescaped.
"""
