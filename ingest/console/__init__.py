"""The console: what people look at the platform with, and edit campaigns and goals. Rendered here, no build step."""
