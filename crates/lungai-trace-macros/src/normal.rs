//! One text for the tokens of an item, whatever its layout. The macros bake its hash into a test, and `lungai-evidence` finds it again
//! in the source: it compiles this very file over `proc_macro2`, so that the two cannot drift apart.
use super::{Delimiter, TokenStream, TokenTree};

/// Without documentation and without the tags themselves, whose ids are links of their own.
pub fn normal(tokens: TokenStream) -> String {
    let mut text = String::new();
    write(tokens, &mut text);
    text
}

fn write(tokens: TokenStream, out: &mut String) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if is(&token, '#') {
            // `#![..]` inside a body too.
            let bang = tokens.next_if(|next| is(next, '!'));
            if tokens.next_if(|next| matches!(next, TokenTree::Group(g) if is_left_out(g.stream()))).is_some() {
                continue;
            }
            out.push_str("# ");
            out.push_str(if bang.is_some() { "! " } else { "" });
            continue;
        }
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push_str(open);
                write(group.stream(), out);
                out.push_str(close);
            }
            other => {
                out.push_str(&other.to_string());
                out.push(' ');
            }
        }
    }
}

fn is(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == c)
}

fn is_left_out(attribute: TokenStream) -> bool {
    let words = attribute.into_iter().take_while(|token| !matches!(token, TokenTree::Group(_)));
    let names =
        words.filter_map(|token| if let TokenTree::Ident(word) = token { Some(word.to_string()) } else { None });
    names.into_iter().any(|word| ["doc", "verifies", "implements"].contains(&word.as_str()))
}
