/** The mark: a wheel of cheese with one wedge lifted out, the part that was refined. */
export function BrandMark({ size = 30 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path d="M16 3a13 13 0 1 0 13 13H16Z" fill="#8a5800" />
      <path d="M14.6 5.8a10.3 10.3 0 1 0 11.6 11.6H14.6Z" fill="#e7b64c" />
      <path d="M19 1.4A11.6 11.6 0 0 1 30.6 13H19Z" fill="#8a5800" />
      <path d="M19 4.1A8.9 8.9 0 0 1 27.9 13H19Z" fill="#f3da98" />
      <circle cx="10.6" cy="14.5" r="1.6" fill="#8a5800" />
      <circle cx="12.6" cy="21" r="2" fill="#8a5800" />
      <circle cx="19.3" cy="20.6" r="1.3" fill="#8a5800" />
    </svg>
  );
}
