//! What touches the kernel. No decisions here.
