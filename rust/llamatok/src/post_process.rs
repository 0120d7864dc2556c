//! What is put around the ids of texts: templates of special tokens, for one text and for a pair.

use crate::vocabulary::TokenId;
use crate::{Error, Result};

/// A place in a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateItem {
    /// A text: 0 for the first, 1 for its pair.
    Sequence {
        /// Which of the two.
        sequence: u8,
        /// The type id that its tokens get.
        type_id: u32,
    },
    /// A token.
    Token {
        /// What it is called.
        token: String,
        /// Its id.
        id: TokenId,
        /// Its type id.
        type_id: u32,
    },
}

impl TemplateItem {
    fn type_id(&self) -> u32 {
        match self {
            Self::Sequence { type_id, .. } | Self::Token { type_id, .. } => *type_id,
        }
    }
}

/// The templates for one text and for a pair (`TemplateProcessing` of the tokenizers library).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    single: Vec<TemplateItem>,
    pair: Vec<TemplateItem>,
}

impl Default for Templates {
    /// Templates that add nothing.
    fn default() -> Self {
        let sequence = |sequence: u8| TemplateItem::Sequence { sequence, type_id: sequence.into() };
        Self { single: vec![sequence(0)], pair: vec![sequence(0), sequence(1)] }
    }
}

impl Templates {
    /// Checks templates.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) where `single` has not the first text
    /// once and the second never, or `pair` not both once; and for a type id above 2³¹ - 1.
    pub fn new(single: Vec<TemplateItem>, pair: Vec<TemplateItem>) -> Result<Self> {
        let count = |items: &[TemplateItem], wanted: u8| {
            let is_wanted = |item: &&TemplateItem| matches!(item, TemplateItem::Sequence { sequence, .. } if *sequence == wanted);
            items.iter().filter(is_wanted).count()
        };
        for (name, items, counts) in [("single", &single, [1, 0]), ("pair", &pair, [1, 1])] {
            if [count(items, 0), count(items, 1)] != counts {
                return Err(Error::unsupported(
                    format!("post_processor.{name}"),
                    "the template must hold each text once",
                ));
            }
            // The columns of type ids are int32.
            if let Some(id) = items.iter().map(TemplateItem::type_id).find(|&id| id > i32::MAX as u32) {
                return Err(Error::unsupported(
                    format!("post_processor.{name}"),
                    format!("the type id {id} is more than {}", i32::MAX),
                ));
            }
        }
        Ok(Self { single, pair })
    }

    /// The template for one text.
    pub fn single(&self) -> &[TemplateItem] {
        &self.single
    }

    /// The template for a pair.
    pub fn pair(&self) -> &[TemplateItem] {
        &self.pair
    }

    /// The template for one text or for a pair.
    pub(crate) fn of(&self, pair: bool) -> &[TemplateItem] {
        if pair {
            &self.pair
        } else {
            &self.single
        }
    }

    /// How many tokens a template adds.
    pub fn num_special_tokens(&self, pair: bool) -> usize {
        self.of(pair).iter().filter(|item| matches!(item, TemplateItem::Token { .. })).count()
    }
}
