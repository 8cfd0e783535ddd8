//! What is explored has a name in the page, and is a test of that name.

/// Declares all things of a type, in the order of its `new`, and a test for each that calls its `check`; one that an
/// attribute keeps out of the tests is a part of `make proof` only.
macro_rules! named {
    (@long) => { false };
    (@long $long:meta) => { true };
    ($Type:ident; $($(#[$long:meta])? $name:ident: $about:literal, $bounds:expr, $own:expr;)*) => {
        /// Every one.
        pub const ALL: &[$Type] =
            &[$($Type::new(stringify!($name), $about, $bounds, $own, named!(@long $($long)?))),*];

        #[cfg(test)]
        mod tests {
            $(
                #[test]
                $(#[$long])?
                fn $name() {
                    super::ALL.iter().find(|one| one.name == stringify!($name)).unwrap().check();
                }
            )*
        }
    };
}
