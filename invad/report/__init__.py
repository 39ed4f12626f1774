"""From results to what people read: tables, figures and one self-contained page."""
