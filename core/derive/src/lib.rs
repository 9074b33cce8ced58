//! `#[derive(LogRecord)]`: columns and writer of a log stream from the struct that declares it.
//!
//! ```text
//! #[derive(LogRecord)]
//! #[log(stream = "conn")]            none on a record that is only part of another
//! struct ConnLog {
//!     /// Doc comment: becomes the column's description.
//!     ts: Ts,
//!     #[log(nested)]                 a LogRecord whose columns follow as `id.…`
//!     id: ConnId,
//!     #[log(flatten)]                a LogRecord whose columns follow without a prefix
//!     more: More,
//!     #[log(name = "type")]          another name than the field's
//!     kind: Option<String>,
//! }
//! ```

use proc_macro::TokenStream;
use quote::quote;
use syn::{
    Attribute, Data, DeriveInput, Expr, ExprLit, Fields, Lit, LitStr, Meta, parse_macro_input,
};

/// See the crate's documentation.
#[proc_macro_derive(LogRecord, attributes(log))]
pub fn log_record(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

fn expand(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(input, "LogRecord: only a struct can be a log record"));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(syn::Error::new_spanned(input, "LogRecord: columns need names"));
    };
    let stream = LogAttr::read(&input.attrs)?.stream.unwrap_or_default();
    let mut columns = Vec::new();
    let mut writes = Vec::new();
    let mut widths = Vec::new();
    for field in &fields.named {
        let attr = LogAttr::read(&field.attrs)?;
        let Some(ident) = &field.ident else { continue };
        let rust_type = &field.ty;
        let name = attr.name.unwrap_or_else(|| ident.to_string());
        let doc = doc_of(&field.attrs);
        columns.push(if attr.flatten {
            quote! { <#rust_type as ::tyto_core::record::LogRecord>::columns(prefix, fields); }
        } else if attr.nested {
            quote! {
                <#rust_type as ::tyto_core::record::LogRecord>::columns(
                    &format!("{prefix}{}.", #name), fields);
            }
        } else {
            quote! {
                fields.push(::tyto_core::record::schema::SchemaField {
                    name: format!("{prefix}{}", #name).into(),
                    field_type: <#rust_type as ::tyto_core::record::value::LogValue>::TYPE,
                    doc: #doc.into(),
                });
            }
        });
        widths.push(if attr.nested || attr.flatten {
            quote! { <#rust_type as ::tyto_core::record::LogRecord>::WIDTH }
        } else {
            quote! { 1 }
        });
        writes.push(if attr.nested || attr.flatten {
            quote! { ::tyto_core::record::LogRecord::write(&self.#ident, sink); }
        } else {
            quote! { ::tyto_core::record::value::LogValue::write(&self.#ident, sink); }
        });
    }
    let ident = &input.ident;
    let (impl_generics, type_generics, where_clause) = input.generics.split_for_impl();
    Ok(quote! {
        impl #impl_generics ::tyto_core::record::LogRecord for #ident #type_generics #where_clause {
            const STREAM: &'static str = #stream;
            const WIDTH: usize = 0 #(+ #widths)*;

            fn columns(
                prefix: &str,
                fields: &mut ::std::vec::Vec<::tyto_core::record::schema::SchemaField>,
            ) {
                #(#columns)*
            }

            fn write(&self, sink: &mut impl ::tyto_core::record::FieldSink) {
                #(#writes)*
            }
        }
    })
}

#[derive(Default)]
struct LogAttr {
    stream: Option<String>,
    name: Option<String>,
    nested: bool,
    flatten: bool,
}

impl LogAttr {
    fn read(attrs: &[Attribute]) -> syn::Result<Self> {
        let mut found = Self::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("log")) {
            attr.parse_nested_meta(|meta| {
                if meta.path.is_ident("stream") {
                    found.stream = Some(meta.value()?.parse::<LitStr>()?.value());
                } else if meta.path.is_ident("name") {
                    found.name = Some(meta.value()?.parse::<LitStr>()?.value());
                } else if meta.path.is_ident("nested") {
                    found.nested = true;
                } else if meta.path.is_ident("flatten") {
                    found.flatten = true;
                } else {
                    return Err(meta.error("expected stream, name, nested or flatten"));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// The doc comment as one line.
fn doc_of(attrs: &[Attribute]) -> String {
    let lines = attrs.iter().filter_map(|attr| match &attr.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value().trim().to_owned()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join(" ")
}
